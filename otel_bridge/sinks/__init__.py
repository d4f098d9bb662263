"""The sinks beside OTLP: a file and the console."""
