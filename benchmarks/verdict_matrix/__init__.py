"""Hostile and unlucky submissions in every tier, as root and as a user, alone and beside one that starves them."""
