"""From exchanges to OpenTelemetry: span building, redaction, encoding, batching and OTLP delivery."""
