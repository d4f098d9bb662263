"""Kernel side: the BPF program, its loading, the records it emits, and recordings of them. It parses no HTTP."""
