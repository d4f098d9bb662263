/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Judging a connection by the first bytes of a call. Plain C without kernel calls: a native test runs this
 * very text.
 */
#ifndef WIRESPAN_INFERENCE_H
#define WIRESPAN_INFERENCE_H

#include "records.h"

enum inference {
    INFERENCE_NO_MATCH,
    INFERENCE_NEED_MORE,
    INFERENCE_REQUEST,
    INFERENCE_RESPONSE,
    INFERENCE_HTTP2,
    INFERENCE_TLS,
    INFERENCES, /* how many there are */
};

#define JUDGED_BYTES 8 /* the longest prefix: "CONNECT ", "OPTIONS ", "PRI * HT" */
#define LEADING_BREAKS \
    8 /* CR and LF skipped before a request line (RFC 9112 section 2.2 asks for at least one CRLF) */

/* Mask of the first n bytes of a little-endian word, 1 <= n <= 8. */
static __always_inline __u64 low_bytes(__u64 n) {
    return ~0ULL >> (64 - 8 * n);
}

/* 1 when value is 0, else 0, without a branch: a dozen of them in a row would be thousands of paths to the
 * verifier. The empty statements keep the compiler from recognising the comparison. */
static __always_inline __u64 is_zero(__u64 value) {
    __u64 negated = 0 - value;
    asm volatile("" : "+r"(negated));
    negated |= value;
    negated >>= 63;
    asm volatile("" : "+r"(negated));
    return negated ^ 1;
}

/* low, high: the first 16 bytes as little-endian words, zero behind `length`. A prefix holds no zero byte, so
 * a word that is too short equals none. */
static __always_inline enum inference infer(__u64 low, __u64 high, __u64 length) {
    __u64 matched[INFERENCES] = {};
    __u64 incomplete = 0, mask;

#pragma unroll
    for (int i = 0; i < LEADING_BREAKS; i++) {
        __u64 first = low & 0xff;
        __u64 skip = is_zero(first ^ '\r') | is_zero(first ^ '\n');
        low = low >> 8 * skip | high << 1 << (63 - 8 * skip);
        high >>= 8 * skip;
        length -= skip;
    }
    if (length == 0)
        return INFERENCE_NEED_MORE;
    if (length > JUDGED_BYTES)
        length = JUDGED_BYTES;
    mask = low_bytes(length);
    low &= mask;

    /* TLS record header: handshake, major version 3 (RFC 8446 section 5.1) */
    matched[INFERENCE_TLS] = is_zero((low & 0xffff) ^ 0x0316);
    incomplete = is_zero(low ^ (0x0316 & mask));
#define MATCH(prefix_length, prefix, meaning)                               \
    matched[meaning] |= is_zero((low & low_bytes(prefix_length)) ^ prefix); \
    incomplete |= is_zero(low ^ (prefix & mask));
    HTTP_PREFIXES(MATCH)
#undef MATCH
    if (matched[INFERENCE_REQUEST])
        return INFERENCE_REQUEST;
    if (matched[INFERENCE_RESPONSE])
        return INFERENCE_RESPONSE;
    if (matched[INFERENCE_HTTP2])
        return INFERENCE_HTTP2;
    if (matched[INFERENCE_TLS])
        return INFERENCE_TLS;
    return incomplete ? INFERENCE_NEED_MORE : INFERENCE_NO_MATCH;
}

#endif
