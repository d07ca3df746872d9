"""foreshock: see reward hacking coming before it shows."""

__version__ = "0.1.0"
