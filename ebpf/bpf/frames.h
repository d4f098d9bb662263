/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What is captured of an HTTP/2 connection. Many streams share it, and one that is large must not cost the
 * others their heads: so the payload of DATA frames shares a budget, and everything else is captured whole,
 * the header of each frame included. A single frame never costs more than the budget, whatever it is.
 */
#ifndef WIRESPAN_FRAMES_H
#define WIRESPAN_FRAMES_H

#include "transfer.h"

/* Frames that exist: those of RFC 9113 section 6, ALTSVC, ORIGIN and PRIORITY_UPDATE (IANA's registry). Any
 * other type, or a reserved bit that is set, says that this is not where a frame begins. */
#define KNOWN_FRAME_TYPES 0x117ffULL
#define MAX_KNOWN_FRAME_TYPE 16

/* Copies the bytes at window->at of a call into window->frame: at most HELD_BYTES of one segment, which is
 * all where frames are written each in a segment of its own or all in one. */
static __always_inline void read_frame(struct window *window, struct movement *movement) {
    __u64 iovec = 0, iovecs = 1;
    __u64 at = window->at;
    __u64 length = movement->bytes - at;

    window->frame[0] = 0;
    window->frame[1] = 0;
    if (movement->form != FORM_BUFFER)
        descend_to_iovecs(movement, &iovec, &iovecs);
#pragma nounroll
    for (int i = 0; i < MAX_JUDGED_SEGMENTS; i++) {
        __u64 segment[2] = {movement->address, movement->bytes};
        if (i >= iovecs)
            return;
        if (movement->form != FORM_BUFFER &&
            read_user(segment, sizeof(segment), (void *)iovec + i * IOVEC_BYTES) != 0)
            return;
        if (at >= segment[1]) {
            at -= segment[1];
            continue;
        }
        if (length > segment[1] - at)
            length = segment[1] - at;
        if (length > HELD_BYTES)
            length = HELD_BYTES;
        asm volatile("" : "+r"(length));
        if (length <= HELD_BYTES)
            read_user(window->frame, length, (void *)segment[0] + at);
        return;
    }
}

/* Walks over the HTTP/2 frames that a call may begin with, as many as convince. */
static __always_inline void walk_frames(struct window *window, struct movement *movement) {
    window->frame[0] = window->first[0];
    window->frame[1] = window->first[1];
#pragma nounroll
    for (int i = 0; i < FRAMES_BELIEVED; i++) {
        if (i > 0)
            read_frame(window, movement);
        if (!walk_frame(window, movement->bytes))
            return;
    }
}

/* Whether frames have to be looked for: in the direction that did not decide, of a connection that was joined
 * late, or after they were lost. */
static __always_inline int seeks_frames(struct connection *connection, struct stream_state *stream) {
    return connection->verdict == VERDICT_FRAMES && !stream->framed;
}

/* Follows frames from the beginning of a call on, if the walk over it convinces. */
static __always_inline void find_frames(struct stream_state *stream, struct window *window, __u64 moved) {
    if (infer_frames(window, moved) == INFERENCE_NO_MATCH)
        return;
    stream->framed = 1;
    stream->header_length = 0;
    stream->keep_left = 0;
    stream->skip_left = 0;
}

/* Goes by what a frame's header says, which stands in stream->held. */
static __always_inline void begin_frame(struct connection *connection, __u32 direction, __u32 budget) {
    struct stream_state *stream = &connection->streams[direction & 1];
    __u32 length = (__u32)stream->held[0] << 16 | (__u32)stream->held[1] << 8 | stream->held[2];
    __u32 type = stream->held[3];

    stream->header_length = 0;
    if (type > MAX_KNOWN_FRAME_TYPE || !(KNOWN_FRAME_TYPES >> type & 1) || stream->held[5] & 0x80) {
        stream->framed = 0;
        return;
    }
    /* A message that begins, at either end, refills the budget, and so does what the other end sends of its
     * own: not what it only acknowledges, or every download would be captured whole. */
    if (type == FRAME_HEADERS)
        stream->kept = 0;
    if (type == FRAME_HEADERS || type == FRAME_DATA)
        connection->streams[!direction].kept = 0;
    if (type == FRAME_DATA)
        budget = stream->kept < budget ? budget - stream->kept : 0;
    stream->keep_left = length < budget ? length : budget;
    stream->skip_left = length - stream->keep_left;
    if (type == FRAME_DATA)
        stream->kept += stream->keep_left;
}

/* Takes up to the rest of a frame's header from the current segment. Returns whether it was readable. */
static __always_inline int read_header(struct connection *connection, struct transfer *transfer) {
    struct stream_state *stream = &connection->streams[transfer->direction & 1];
    __u64 have = stream->header_length;
    __u64 length = transfer->segment_left;

    if (have >= FRAME_HEADER_BYTES) /* never; said for the verifier */
        return 0;
    if (length > transfer->message_left)
        length = transfer->message_left;
    if (length > FRAME_HEADER_BYTES - have)
        length = FRAME_HEADER_BYTES - have;
    asm volatile("" : "+r"(length), "+r"(have));
    if (length > FRAME_HEADER_BYTES || have >= FRAME_HEADER_BYTES)
        return 0;
    if (read_user(stream->held + have, length, (void *)transfer->segment) != 0)
        return 0;
    transfer->wanted = length;
    stream->header_length = have + length;
    if (stream->header_length == FRAME_HEADER_BYTES)
        begin_frame(connection, transfer->direction, transfer->budget);
    return 1;
}

/* Passes over bytes that are counted only. */
static __always_inline void skip_bytes(struct scratch *scratch, struct connection *connection,
                                       struct transfer *transfer) {
    struct stream_state *stream = &connection->streams[transfer->direction & 1];
    __u64 length = stream->skip_left;

    if (transfer->filled > 0) {
        deliver_gathered(scratch, connection, transfer, 0, 0);
        return;
    }
    if (length > transfer->segment_left)
        length = transfer->segment_left;
    if (length > transfer->message_left)
        length = transfer->message_left;
    transfer->segment += length;
    transfer->segment_left -= length;
    transfer->message_left -= length;
    transfer->delivered += length;
    stream->skip_left -= length;
    note_over_budget(connection, transfer->direction, transfer->delivered, length, transfer->ktime_ns);
}

/* Once it is not known where frames begin, the rest of the call is captured like any other bytes. */
static __always_inline void lose_frames(struct stream_state *stream, struct transfer *transfer) {
    __u64 spent = stream->spent + transfer->filled;
    __u64 left = spent < transfer->budget ? transfer->budget - spent : 0;

    stream->framed = 0;
    transfer->wanted = transfer->message_left < left ? transfer->message_left : left;
}

/* What comes before a step of a call whose frames are followed, once nothing is left to copy: fetches the
 * next segment, passes over bytes, or returns how many to copy. Returns whether there is something to copy.
 */
static __always_inline int prepare_step(struct scratch *scratch, struct connection *connection,
                                        struct stream_state *stream, struct transfer *transfer) {
    __u64 pair[2] = {0, 0};
    __u64 kept;

    if (transfer->segment_left == 0) {
        if (transfer->iovecs_left == 0 || read_user(pair, sizeof(pair), (void *)transfer->iovec) != 0) {
            lose_frames(stream, transfer);
            return 0;
        }
        transfer->iovec += IOVEC_BYTES;
        transfer->iovecs_left--;
        transfer->segment = pair[0];
        transfer->segment_left = pair[1];
        return 0;
    }
    if (stream->keep_left == 0 && stream->skip_left > 0) {
        skip_bytes(scratch, connection, transfer);
        return 0;
    }
    if (stream->keep_left == 0 && !read_header(connection, transfer))
        stream->framed = 0;
    if (!stream->framed) {
        lose_frames(stream, transfer);
        return 0;
    }
    kept = transfer->message_left - transfer->wanted;
    if (kept > stream->keep_left)
        kept = stream->keep_left;
    transfer->wanted += kept;
    stream->keep_left -= kept;
    return 1;
}

/* Runs up to STEPS steps of any call. Returns whether it is not finished. */
static __always_inline int run_all_steps(struct scratch *scratch, struct connection *connection,
                                         struct transfer *transfer) {
    struct stream_state *stream = &connection->streams[transfer->direction & 1];
#pragma nounroll
    for (int i = 0; i < STEPS; i++) {
        if (stream->framed && transfer->wanted == 0 && transfer->message_left > 0 &&
            !prepare_step(scratch, connection, stream, transfer))
            continue;
        if (!step_transfer(scratch, connection, transfer))
            return 0;
    }
    return 1;
}

/* Says what became of a call that was not followed to its end: its frames are not known any more. */
static __always_inline void abandon_frames(struct connection *connection, struct transfer *transfer) {
    struct stream_state *stream = &connection->streams[transfer->direction & 1];

    if (transfer->message_left == 0 || !stream->framed)
        return;
    stream->framed = 0;
    transfer->wanted = transfer->message_left;
}

/* Bytes went by that can't be looked at. Within a frame that is a matter of counting. */
static __always_inline void pass_unseen(struct stream_state *stream, __u64 bytes) {
    __u64 kept = bytes < stream->keep_left ? bytes : stream->keep_left;

    stream->keep_left -= kept;
    if (bytes - kept > stream->skip_left || stream->header_length > 0) {
        stream->framed = 0;
        return;
    }
    stream->skip_left -= bytes - kept;
}

/* Whether the frames of a movement are followed. Several messages at once, which are not in use on a stream,
 * are not. */
static __always_inline int follows_frames(struct connection *connection, struct movement *movement) {
    struct stream_state *stream = &connection->streams[movement->direction & 1];

    if (movement->form == FORM_MMSGHDR)
        stream->framed = 0;
    if (movement->form != FORM_UNSEEN && movement->form != FORM_DISCARDED)
        return stream->framed;
    if (stream->framed)
        pass_unseen(stream, movement->bytes);
    return 0;
}

/* Turns a movement with known frames into records, by the tail program. */
static __always_inline int capture_frames(void *context, struct scratch *scratch,
                                          struct connection *connection, struct movement *movement,
                                          __u32 budget, __u64 ktime_ns, __u64 thread) {
    __u32 direction = movement->direction & 1;
    struct stream_state *stream = &connection->streams[direction];
    __u64 position = stream->position;

    if (!connection->opened)
        open_connection(scratch, connection, direction, ktime_ns, thread);
    __sync_fetch_and_add(&stream->position, movement->bytes);
    if (connection->turn != direction) {
        deliver_uncaptured(&scratch->record, connection, !direction);
        connection->turn = direction;
    }
    begin_transfer(scratch, connection, movement, position, 0, budget, ktime_ns, thread);
    continuations.call(context, CONTINUE_TRANSFER);
    return 0;
}

#endif
