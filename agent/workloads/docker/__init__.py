"""Containers as the Docker Engine of this host knows them."""
