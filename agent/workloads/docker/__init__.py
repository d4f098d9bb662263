"""Containers as the Docker Engine of this host lists them."""
