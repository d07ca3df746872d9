"""How often `foreshock compare` calls two runs of the same rates different."""
