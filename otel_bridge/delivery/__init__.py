"""The OTLP sink: from a queue of spans to requests that a backend acknowledges."""
