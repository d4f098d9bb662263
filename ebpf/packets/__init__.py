"""Packet captures: from a file to the events of sockets."""
