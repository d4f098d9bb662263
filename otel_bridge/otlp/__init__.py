"""Spans as OTLP protobuf."""
