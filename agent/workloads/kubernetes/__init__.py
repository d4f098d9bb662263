"""Pods of this node as the Kubernetes API knows them, and what is captured of them."""
