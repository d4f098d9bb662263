"""Which process uses which TLS library, and attaching to it."""
