"""WebSocket: frames, messages, sessions."""
