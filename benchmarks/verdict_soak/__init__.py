"""Honest solutions verified beside hostile ones, on a machine that is overloaded and stopped again and again."""
