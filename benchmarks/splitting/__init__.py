"""Splitting against direct sampling on worlds with exact rates, down to one in a million."""
