"""Commands on files that exist already: score them, verify them again."""
