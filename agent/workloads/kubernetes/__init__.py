"""Pods of this node as the Kubernetes API lists them, and what is captured of them."""
