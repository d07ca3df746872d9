"""Prefill sources: exploit traces gathered from what models have written."""
