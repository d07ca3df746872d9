"""The parts of a model's answer: fenced blocks, code in prose, and what Python makes of a text."""
