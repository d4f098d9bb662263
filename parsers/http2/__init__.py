"""HTTP/2: frames, compressed fields, streams."""
