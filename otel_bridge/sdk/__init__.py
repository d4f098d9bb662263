"""The OpenTelemetry SDK's settings, components and span type; imported only by runs that use them."""
