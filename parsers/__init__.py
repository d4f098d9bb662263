"""Passive, sans-I/O protocol parsing: events in, exchanges out. No clock, thread, log, or environment."""
