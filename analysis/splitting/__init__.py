"""Rates of rare behaviour from a model's own prefixes, without a donor: splitting over words."""
