"""The demo: a sample API, traffic to it, and a run that shows the spans of both and counts them."""
