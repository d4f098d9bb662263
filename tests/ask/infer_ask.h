/* Whether a line of the ASK protocol begins with these bytes. */
#define ASK_LINE   0x204b5341ULL /* "ASK " as a little-endian word */
#define GOT_LINE   0x20544f47ULL /* "GOT " */
#define VERB_BYTES 4

static __always_inline enum inference infer_ask(__u64 low, __u64 high, __u64 length) {
    __u64 known = known_bytes(length) & 0xffffffff;
    __u64 is_request = is_zero((low ^ ASK_LINE) & known);
    __u64 is_response = is_zero((low ^ GOT_LINE) & known);

    if (!(is_request | is_response))
        return INFERENCE_NO_MATCH;
    if (length < VERB_BYTES)
        return INFERENCE_NEED_MORE;
    return is_request ? INFERENCE_REQUEST : INFERENCE_RESPONSE;
}
