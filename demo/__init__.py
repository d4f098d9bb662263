"""The demo: sample services for Docker Compose, and the `wirespan demo` command."""
