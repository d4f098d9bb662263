"""Credentials out of everything that a span carries."""
