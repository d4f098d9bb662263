"""gRPC and gRPC-Web: messages and calls."""
