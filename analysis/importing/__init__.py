"""Sample logs of other tools as level-0 evaluations: inspect logs, lm-eval samples, rollouts of RL trainers."""
