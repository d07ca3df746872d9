"""Verification side by side with a plain subprocess and djinn's own service."""
