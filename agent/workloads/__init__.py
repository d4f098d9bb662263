"""Which container and which pod a process belongs to, what they are called, and what is captured of them."""
