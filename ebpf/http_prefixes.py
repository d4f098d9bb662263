"""The first bytes by which the kernel side recognises HTTP at once: the one list behind its C table.

Requests of other methods are known by their answer (bpf/connections.h).
"""

from __future__ import annotations

HTTP_PREFIXES: tuple[tuple[bytes, str], ...] = (
    # the methods of RFC 9110 section 9.3, and PATCH (RFC 5789)
    *(
        (method + b" ", "INFERENCE_REQUEST")
        for method in (
            b"GET",
            b"HEAD",
            b"POST",
            b"PUT",
            b"DELETE",
            b"CONNECT",
            b"OPTIONS",
            b"TRACE",
            b"PATCH",
        )
    ),
    # a status line (RFC 9112 section 4)
    (b"HTTP/1.", "INFERENCE_RESPONSE"),
    # the HTTP/2 preface (RFC 9113 section 3.4)
    (b"PRI * HT", "INFERENCE_HTTP2_REQUEST"),
)
"""Prefix and its meaning (`enum inference` in bpf/inference.h). At most 8 bytes each, none a prefix of
another."""


def prefix_table() -> str:
    """Return the list as the C macro HTTP_PREFIXES(X).

    It expands to X(length, little-endian word, meaning) for each prefix.
    """
    rows = (
        f"X({len(prefix)}, 0x{int.from_bytes(prefix, 'little'):x}ULL, {meaning})"
        for prefix, meaning in HTTP_PREFIXES
    )
    return f"#define HTTP_PREFIXES(X) {' '.join(rows)}\n"
