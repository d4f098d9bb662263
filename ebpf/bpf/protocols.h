/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The protocols beside HTTP, by the first bytes of a call. Each has one function in a file of its own:
 *
 *     enum inference infer_NAME(__u64 low, __u64 high, __u64 length)
 *
 * It takes what `infer` takes, and returns INFERENCE_REQUEST or INFERENCE_RESPONSE for the first bytes of a
 * message, INFERENCE_NEED_MORE for fewer than HELD_BYTES that may become one, and else INFERENCE_NO_MATCH.
 * Their table, JUDGED_PROTOCOLS(X) with X(number, function) for each, is made by ebpf/protocols.py.
 */
#ifndef WIRESPAN_PROTOCOLS_H
#define WIRESPAN_PROTOCOLS_H

#include "inference.h"

#define DECLARE(number, function) \
    static __always_inline enum inference function(__u64 low, __u64 high, __u64 length);
JUDGED_PROTOCOLS(DECLARE)
#undef DECLARE

/* Whether HTTP is ruled out, or not shown yet: another protocol may claim the bytes. */
static __always_inline int is_open(__u64 inference) {
    return inference == INFERENCE_NO_MATCH || inference == INFERENCE_NEED_MORE ||
           inference == INFERENCE_POSSIBLE_REQUEST;
}

/* Asks each protocol for bytes that are not HTTP for sure; the first that is sure has them. */
static __always_inline void infer_beside_http(struct window *window, __u64 low, __u64 high, __u64 length) {
#define ASK(number, function)                                                  \
    if (is_open(window->verdict)) {                                            \
        enum inference inference = function(low, high, length);                \
        if (inference == INFERENCE_REQUEST || inference == INFERENCE_RESPONSE) \
            window->protocol = number;                                         \
        if (inference != INFERENCE_NO_MATCH)                                   \
            window->verdict = inference;                                       \
    }
    JUDGED_PROTOCOLS(ASK)
#undef ASK
}

#endif
