"""Passive, sans-I/O protocol parsing: socket events in, exchanges out. No clock, thread, log or I/O."""
