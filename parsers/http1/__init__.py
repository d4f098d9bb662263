"""HTTP/1: messages of both directions, and their pairing."""
