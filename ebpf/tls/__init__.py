"""Plaintext of TLS connections: what of an executable file has to be probed for it."""
