"""Early warning, measured: hacking that emerges by reinforcement learning, and which alarm sees it coming first."""
