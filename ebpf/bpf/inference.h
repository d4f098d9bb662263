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
    INFERENCE_HTTP2_REQUEST,  /* a client speaks HTTP/2 */
    INFERENCE_HTTP2_RESPONSE, /* a server does */
    INFERENCE_HTTP2_FRAMES,   /* either does */
    INFERENCE_TLS,
    INFERENCE_POSSIBLE_REQUEST, /* of a method that is not listed, or behind a PROXY header: the answer
                                   decides */
    INFERENCES,                 /* how many there are */
};

#define LEADING_BREAKS \
    8 /* CR and LF skipped before a request line (RFC 9112 section 2.2 asks for at least one CRLF) */

/* Mask of the first n bytes of a little-endian word, 1 <= n <= 8. */
static __always_inline __u64 low_bytes(__u64 n) {
    return ~0ULL >> (64 - 8 * n);
}

/* Mask of the first n bytes of a little-endian word, without a branch: none below 1, all from 8 on. `n` is
 * the difference of two numbers up to 16. */
static __always_inline __u64 known_bytes(__u64 n) {
    __u64 is_positive = (0 - n) >> 63, reaches = ((n - 8) >> 63) ^ 1;

    return ((~0ULL >> ((64 - 8 * n) & 63)) & (0 - is_positive)) | (0 - (reaches & is_positive));
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

/* The bytes below 64 and from 64 on that a token may hold (RFC 9110 section 5.6.2), a bit each. */
#define TOKENS_LOW 0x03ff6cfa00000000ULL
#define TOKENS_HIGH 0x57ffffffc7fffffeULL

/* 1 when the bytes may begin a request line whatever its method: a token, white space and a visible byte (RFC
 * 9112 section 3), as far as the bytes reach. `low` and `high` as for infer, 0 < length <= 16. */
static __always_inline __u64 may_begin_request_line(__u64 low, __u64 high, __u64 length) {
    __u64 has_method = 0, has_space = 0, has_target = 0, refused = 0;

#pragma nounroll
    for (__u32 i = 0; i < HELD_BYTES; i++) {
        __u64 byte = low & 0xff;
        __u64 half = byte >> 6;
        __u64 words = (TOKENS_LOW & (0 - is_zero(half))) | (TOKENS_HIGH & (0 - is_zero(half ^ 1)));
        __u64 is_token = words >> (byte & 63) & 1;
        __u64 is_blank = is_zero(byte ^ ' ') | is_zero(byte ^ '\t');
        __u64 is_visible = (' ' - byte) >> 63;
        __u64 counts = (i - length) >> 63 & (has_target ^ 1);
        __u64 in_method = counts & (has_space ^ 1);
        __u64 behind_space = counts & has_space;

        refused |= in_method & ((is_token | (is_blank & has_method)) ^ 1);
        refused |= behind_space & ((is_visible | is_blank) ^ 1);
        has_target |= behind_space & (is_blank ^ 1);
        has_space |= in_method & is_blank;
        has_method |= in_method;
        low = low >> 8 | high << 56;
        high >>= 8;
    }
    return refused ^ 1;
}

/* The first bytes of the PROXY protocol's second version. */
#define PROXY_SIGNATURE_LOW 0x510a0d000a0d0a0dULL
#define PROXY_SIGNATURE_HIGH 0x0a544955ULL
#define PROXY_SIGNATURE_BYTES 12

/* low, high: the first 16 bytes as little-endian words, zero behind `length`. A prefix holds no zero byte, so
 * a word that is too short equals none. What is dear comes before the first branch: the verifier follows it
 * once. */
static __always_inline enum inference infer(__u64 low, __u64 high, __u64 length) {
    __u64 matched[INFERENCES] = {};
    __u64 incomplete, possible, mask;
    /* the signature as far as the bytes reach */
    __u64 is_signed = is_zero((low ^ PROXY_SIGNATURE_LOW) & known_bytes(length)) &
                      is_zero((high ^ PROXY_SIGNATURE_HIGH) & known_bytes(length - 8) & 0xffffffff);

    incomplete = is_signed & ((length - PROXY_SIGNATURE_BYTES) >> 63);
#pragma unroll
    for (int i = 0; i < LEADING_BREAKS; i++) {
        __u64 first = low & 0xff;
        __u64 skip = is_zero(first ^ '\r') | is_zero(first ^ '\n');
        low = low >> 8 * skip | high << 1 << (63 - 8 * skip);
        high >>= 8 * skip;
        length -= skip;
    }
    possible = is_signed | may_begin_request_line(low, high, length);
    incomplete |= is_zero(length);
    mask = known_bytes(length);
    low &= mask;

    /* TLS record header: handshake, major version 3 (RFC 8446 section 5.1) */
    matched[INFERENCE_TLS] = is_zero((low & 0xffff) ^ 0x0316);
    incomplete |= is_zero(low ^ (0x0316 & mask));
#define MATCH(prefix_length, prefix, meaning)                               \
    matched[meaning] |= is_zero((low & low_bytes(prefix_length)) ^ prefix); \
    incomplete |= is_zero(low ^ (prefix & mask));
    HTTP_PREFIXES(MATCH)
#undef MATCH
    if (matched[INFERENCE_REQUEST])
        return INFERENCE_REQUEST;
    if (matched[INFERENCE_RESPONSE])
        return INFERENCE_RESPONSE;
    if (matched[INFERENCE_HTTP2_REQUEST])
        return INFERENCE_HTTP2_REQUEST;
    if (matched[INFERENCE_TLS])
        return INFERENCE_TLS;
    if (incomplete)
        return INFERENCE_NEED_MORE;
    return possible ? INFERENCE_POSSIBLE_REQUEST : INFERENCE_NO_MATCH;
}

#define PREFACE_BYTES 24 /* "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" (RFC 9113 section 3.4) */
#define FRAME_HEADER_BYTES 9
#define MAX_FRAME_PAYLOAD 16384 /* SETTINGS_MAX_FRAME_SIZE unless an end asks for more */
#define SETTING_BYTES 6
#define MAX_SETTINGS_BYTES 60 /* ten settings: two more than are registered */
#define FRAMES_BELIEVED 2     /* in a row, in the middle of a connection */
#define MAX_LEADING_FIELDS 4  /* an HTTP/2 request has four fields before its ordinary ones */

/* RFC 9113 section 6. PRIORITY, PUSH_PROMISE and CONTINUATION are left out: they are rare, and never where a
 * message starts. */
enum frame_type {
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_RST_STREAM = 3,
    FRAME_SETTINGS = 4,
    FRAME_PING = 6,
    FRAME_GOAWAY = 7,
    FRAME_WINDOW_UPDATE = 8,
};

enum frame_flag {
    FRAME_END_STREAM = 0x01,
    FRAME_ACK = 0x01,
    FRAME_END_HEADERS = 0x04,
    FRAME_PADDED = 0x08,
    FRAME_PRIORITY = 0x20,
};

/* Whether a connection begins as a server's HTTP/2 does: with a SETTINGS frame (RFC 9113 section 3.4), which
 * may come before the client's preface. `low` and `high` as for infer. */
static __always_inline enum inference infer_settings(__u64 low, __u64 high, __u64 length) {
    __u64 known = low_bytes(length < 8 ? length : 8);
    __u64 size = low >> 16 & 0xff;

    /* all but the size's last byte: type 4, no flags, stream 0 */
    if ((low ^ FRAME_SETTINGS << 24) & 0xffffffffff00ffffULL & known)
        return INFERENCE_NO_MATCH;
    if (size > MAX_SETTINGS_BYTES || size % SETTING_BYTES != 0)
        return INFERENCE_NO_MATCH;
    if (length < FRAME_HEADER_BYTES)
        return INFERENCE_NEED_MORE;
    return (high & 0xff) == 0 ? INFERENCE_HTTP2_RESPONSE : INFERENCE_NO_MATCH;
}

/* Bytes of the frame that begins with these 16, its header included; 0 when no frame of HTTP/2 begins so.
 * Flags, stream and length must be those that the type allows, because what is no HTTP/2 must not pass for
 * it. */
static __always_inline __u64 frame_bytes(__u64 low, __u64 high) {
    __u64 length = (low & 0xff) << 16 | (low >> 8 & 0xff) << 8 | (low >> 16 & 0xff);
    __u64 type = low >> 24 & 0xff;
    __u64 flags = low >> 32 & 0xff;
    __u64 stream = (low >> 40 & 0xff) << 24 | (low >> 48 & 0xff) << 16 | (low >> 56) << 8 | (high & 0xff);
    __u64 of_connection = is_zero(stream);
    /* clients open the odd ones; the highest bit is reserved */
    __u64 of_client = stream & 1 & ~(stream >> 31);
    __u64 holds_any = is_zero(length) ^ 1;
    __u64 flagged_ack = is_zero(flags ^ FRAME_ACK);
    __u64 unflagged = is_zero(flags);
    __u64 legal;

    /* DATA is empty only at the end of a stream */
    legal = is_zero(type ^ FRAME_DATA) & of_client & is_zero(flags & ~(FRAME_END_STREAM | FRAME_PADDED)) &
            (holds_any | (flags & FRAME_END_STREAM));
    legal |= is_zero(type ^ FRAME_HEADERS) & of_client & holds_any &
             is_zero(flags & ~(FRAME_END_STREAM | FRAME_END_HEADERS | FRAME_PADDED | FRAME_PRIORITY));
    legal |= is_zero(type ^ FRAME_RST_STREAM) & of_client & unflagged & is_zero(length ^ 4);
    legal |= is_zero(type ^ FRAME_SETTINGS) & of_connection &
             ((flagged_ack & is_zero(length)) | (unflagged & holds_any & is_zero(length % SETTING_BYTES)));
    legal |= is_zero(type ^ FRAME_PING) & of_connection & (unflagged | flagged_ack) & is_zero(length ^ 8);
    legal |= is_zero(type ^ FRAME_GOAWAY) & of_connection & unflagged & (is_zero(length >> 3) ^ 1);
    legal |=
        is_zero(type ^ FRAME_WINDOW_UPDATE) & (of_client | of_connection) & unflagged & is_zero(length ^ 4);
    legal &= is_zero(length >> 14) | is_zero(length ^ MAX_FRAME_PAYLOAD);
    return legal * (FRAME_HEADER_BYTES + length);
}

/* Who sent a HEADERS frame, by the pseudo-field that its block begins with: those of requests and of
 * responses have fixed numbers (RFC 7541 appendix A). Numbers beyond that table were given out earlier, and
 * say nothing. */
static __always_inline enum inference infer_sender(__u64 low, __u64 high) {
    __u64 flags = low >> 32 & 0xff;
    __u64 block = high >> 8;
    __u64 is_request = 0, is_response = 0;
    __u64 undecided = is_zero((low >> 24 & 0xff) ^ FRAME_HEADERS);

    /* behind the length of the padding, and behind the priority (section 6.2 of RFC 9113) */
    block >>= (flags & FRAME_PADDED) / FRAME_PADDED * 8 + (flags & FRAME_PRIORITY) / FRAME_PRIORITY * 40;
#pragma unroll
    for (int i = 0; i < MAX_LEADING_FIELDS; i++) {
        __u64 form = block >> 4 & 0xf, number = block & 0xf;
        /* a whole field, or a literal value that is indexed, is not, or never may be (section 6) */
        __u64 named = is_zero(form ^ 0x8) | is_zero(form ^ 0x4) | is_zero(form) | is_zero(form ^ 0x1);
        /* :authority, :method, :path, :scheme are 1 to 7, :status is 8 to 14 */
        is_request |= undecided & named & is_zero(number >> 3) & (is_zero(number) ^ 1);
        is_response |= undecided & named & (number >> 3) & (is_zero(number ^ 0xf) ^ 1);
        /* one number above 61, and in one byte: the next field may show it */
        undecided &= (((block & 0xff) + 0x42) >> 8) & (is_zero(~block & 0xff) ^ 1);
        block >>= 8;
    }
    if (is_request)
        return INFERENCE_HTTP2_REQUEST;
    return is_response ? INFERENCE_HTTP2_RESPONSE : INFERENCE_HTTP2_FRAMES;
}

/* What judging looks at: the first bytes of a call, and a walk over the HTTP/2 frames that it may consist of.
 * The walk is kept in memory: once it is read back, the verifier no longer follows each way that led to it.
 */
struct window {
    __u64 first[2];        /* zero where the call ends, as is `frame` */
    __u64 frame[2];        /* the bytes at `at` */
    volatile __u64 length; /* of `first` */
    volatile __u64 at;
    volatile __u64 frames;   /* before `at` */
    volatile __u64 sender;   /* enum inference, as far as they show it */
    volatile __u64 verdict;  /* enum inference, of the first bytes */
    volatile __u64 protocol; /* enum protocol, where that is neither HTTP nor open */
    volatile __u64 is_kept;  /* whether the call is delivered although nothing is decided */
};

/* Goes past the frame at `at` of a call of `moved` bytes. Returns whether there may be another. */
static __always_inline int walk_frame(struct window *window, __u64 moved) {
    __u64 low = window->frame[0], high = window->frame[1];
    __u64 length = frame_bytes(low, high);
    __u64 sender = infer_sender(low, high);

    if (length == 0 || moved - window->at < FRAME_HEADER_BYTES)
        return 0;
    if (window->frames == 0 || window->sender == INFERENCE_HTTP2_FRAMES)
        window->sender = sender;
    window->frames++;
    window->at += length;
    return window->at < moved;
}

/* Whether the call that was walked over is HTTP/2 in the middle of a connection. One frame that is exactly
 * the call, or two in a row, are believed: a length that comes first and is right to the byte, and a type,
 * flags and stream that go together, are more than chance gives. */
static __always_inline enum inference infer_frames(struct window *window, __u64 moved) {
    if (window->frames == 0 || (window->frames < FRAMES_BELIEVED && window->at != moved))
        return INFERENCE_NO_MATCH;
    return window->sender;
}

#endif
