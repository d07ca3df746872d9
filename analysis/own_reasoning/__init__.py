"""How early a model's own reasoning carries the exploit: rates after its first part."""
