"""Kernel side: the BPF program, its loading, its records, and recordings of them. It parses no HTTP."""
