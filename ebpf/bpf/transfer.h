/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The bytes of a finished call: where they lie in user memory, and how they become records.
 */
#ifndef WIRESPAN_TRANSFER_H
#define WIRESPAN_TRANSFER_H

#include "connections.h"

/* Buffers or chunks handled by one program run. The tail call repeats it up to 33 times, which covers the
 * 1,024 segments that the kernel accepts (UIO_MAXIOV); more steps gain nothing and cost verification. */
#define STEPS 32

#define MAX_MESSAGES 1024 /* messages of one sendmmsg or recvmmsg: the kernel's own bound (UIO_MAXIOV) */
#define MAX_JUDGED_SEGMENTS \
    4 /* segments looked at for the first bytes: writers that split a start line use two or three */

#define IOVEC_BYTES 16    /* sizeof(struct iovec) */
#define MSGHDR_IOV 16     /* offsetof(struct user_msghdr, msg_iov), followed by msg_iovlen */
#define MMSGHDR_BYTES 64  /* sizeof(struct mmsghdr) */
#define MMSGHDR_LENGTH 56 /* offsetof(struct mmsghdr, msg_len) */

enum form {
    FORM_BUFFER,
    FORM_IOVEC,
    FORM_MSGHDR,
    FORM_MMSGHDR,
    FORM_UNSEEN,    /* sendfile, splice: no user memory */
    FORM_DISCARDED, /* MSG_TRUNC on TCP: counted, but never copied to the caller */
};

/* What a call moved. */
struct movement {
    __u32 direction;
    __u32 form;
    __u64 address; /* of the buffer, or of the first iovec, msghdr, mmsghdr */
    __u64 extent;  /* number of iovecs; for FORM_MMSGHDR the messages that the call moved */
    __u64 bytes;
};

/* Follows msghdr and mmsghdr down to the iovecs of the first message. */
static __always_inline void descend_to_iovecs(struct movement *movement, __u64 *iovec, __u64 *iovecs) {
    __u64 pair[2] = {0, 0};

    *iovec = movement->address;
    *iovecs = movement->extent;
    if (movement->form == FORM_IOVEC)
        return;
    read_user(pair, sizeof(pair), (void *)movement->address + MSGHDR_IOV);
    *iovec = pair[0];
    *iovecs = pair[1];
}

/* Sums msg_len of the `count` messages at `address` that sendmmsg or recvmmsg moved. The sum grows in memory:
 * in a register the verifier would know a bound of it for each way out of the loop, and follow them all. */
static __always_inline void sum_messages(__u64 address, __u64 count, volatile __u64 *total) {
    *total = 0;
#pragma nounroll
    for (int i = 0; i < MAX_MESSAGES; i++) {
        __u32 length = 0;
        if (i >= count)
            break;
        read_user(&length, sizeof(length), (void *)address + i * MMSGHDR_BYTES + MMSGHDR_LENGTH);
        *total += length;
    }
}

/* Reads the first bytes of a call into scratch->payload. Returns how many, at most HELD_BYTES. */
static __always_inline __u32 read_first_bytes(struct scratch *scratch, struct movement *movement) {
    __u64 iovec = 0, iovecs = 0;
    __u64 filled = 0;
    __u64 wanted = movement->bytes > HELD_BYTES ? HELD_BYTES : movement->bytes;

    if (movement->form == FORM_BUFFER) {
        if (wanted > HELD_BYTES || read_user(scratch->payload, wanted, (void *)movement->address) != 0)
            return 0;
        return wanted;
    }
    if (movement->form == FORM_UNSEEN || movement->form == FORM_DISCARDED)
        return 0;
    descend_to_iovecs(movement, &iovec, &iovecs);
#pragma nounroll
    for (int i = 0; i < MAX_JUDGED_SEGMENTS; i++) {
        __u64 segment[2] = {0, 0};
        __u64 length;
        if (i >= iovecs || filled >= wanted || filled >= HELD_BYTES)
            break;
        if (read_user(segment, sizeof(segment), (void *)iovec + i * IOVEC_BYTES) != 0)
            break;
        length = segment[1] > wanted - filled ? wanted - filled : segment[1];
        asm volatile("" : "+r"(length));
        if (length > HELD_BYTES)
            break;
        if (read_user(scratch->payload + filled, length, (void *)segment[0]) != 0)
            break;
        filled += length;
    }
    return filled > HELD_BYTES ? HELD_BYTES : filled;
}

/* `bytes` of the call, up to the stream position `end`, are not in any record because the budget was used up.
 */
static __always_inline void note_over_budget(struct connection *connection, __u32 direction, __u64 end,
                                             __u64 bytes, __u64 ktime_ns) {
    struct stream_state *stream = &connection->streams[direction & 1];

    stream->missing |= MISSING_BUDGET;
    note_uncaptured(stream, end, ktime_ns);
    count(COUNTER_BUDGET_BYTES, bytes);
}

/* Delivers the bytes gathered in the scratch; or, when there are none, `unread` bytes as lost to `missing`.
 */
static __always_inline void deliver_gathered(struct scratch *scratch, struct connection *connection,
                                             struct transfer *transfer, __u64 unread, __u32 missing) {
    __u64 filled = transfer->filled;

    asm volatile("" : "+r"(filled));
    if (filled > CHUNK_BYTES)
        return;
    if (filled > 0) {
        missing = 0;
        unread = filled;
    }
    deliver_data(&scratch->record, connection, transfer->direction, transfer->delivered, unread, filled,
                 missing, transfer->ktime_ns, transfer->thread);
    transfer->delivered += unread;
    transfer->filled = 0;
}

/* One step: fetch the next message, or the next segment and copy what fits of it. Returns whether there is
 * more to do. */
static __always_inline int step_transfer(struct scratch *scratch, struct connection *connection,
                                         struct transfer *transfer) {
    __u64 pair[2] = {0, 0};
    __u64 filled, length, left;

    if (transfer->wanted == 0)
        return 0;
    if (transfer->segment_left == 0) {
        if (transfer->message_left == 0 || transfer->iovecs_left == 0) {
            __u32 message_length = 0;
            if (transfer->messages_left == 0)
                return 0;
            if (read_user(pair, sizeof(pair), (void *)transfer->message + MSGHDR_IOV) != 0 ||
                read_user(&message_length, sizeof(message_length),
                          (void *)transfer->message + MMSGHDR_LENGTH) != 0)
                return 0;
            transfer->iovec = pair[0];
            transfer->iovecs_left = pair[1];
            transfer->message_left = message_length;
            transfer->message += MMSGHDR_BYTES;
            transfer->messages_left--;
            return 1;
        }
        if (read_user(pair, sizeof(pair), (void *)transfer->iovec) != 0)
            return 0;
        transfer->iovec += IOVEC_BYTES;
        transfer->iovecs_left--;
        transfer->segment = pair[0];
        transfer->segment_left = pair[1];
    }

    filled = transfer->filled;
    if (filled >= CHUNK_BYTES) /* never: a full chunk was delivered; said for the verifier */
        return 0;
    left = transfer->segment_left;
    if (left > transfer->message_left)
        left = transfer->message_left;
    if (left > transfer->wanted)
        left = transfer->wanted;
    if (left > CHUNK_BYTES - filled)
        left = CHUNK_BYTES - filled;
    length = left;
    asm volatile("" : "+r"(length));
    if (length > CHUNK_BYTES)
        return 0;
    if (length == 0) {
        transfer->segment_left = 0;
        return 1;
    }

    if (read_user(scratch->payload + filled, length, (void *)transfer->segment) != 0) {
        if (filled == 0)
            count(COUNTER_UNREADABLE_BYTES, length);
        else
            length = 0; /* what is gathered goes first; the next step finds this segment unreadable again */
    } else {
        transfer->filled = filled + length;
    }
    transfer->segment += length;
    transfer->segment_left -= length;
    transfer->message_left -= length;
    transfer->wanted -= length;
    if (transfer->filled == filled || transfer->filled >= CHUNK_BYTES)
        deliver_gathered(scratch, connection, transfer, length, MISSING_UNREADABLE);
    return 1;
}

/* Delivers what is still gathered, and says what became of the rest: over the budget, or beyond what one call
 * is followed for. */
static __always_inline void finish_transfer(struct scratch *scratch, struct connection *connection,
                                            struct transfer *transfer) {
    __u64 left;

    if (transfer->filled > 0)
        deliver_gathered(scratch, connection, transfer, 0, 0);
    left = transfer->end - transfer->delivered;
    if (left == 0)
        return;
    if (transfer->wanted == 0) {
        note_over_budget(connection, transfer->direction, transfer->end, left, transfer->ktime_ns);
        return;
    }
    count(COUNTER_IOVEC_BOUND_BYTES, left);
    deliver_gathered(scratch, connection, transfer, left, MISSING_IOVEC_BOUND);
}

/* Notes what the tail program is to copy. */
static __always_inline void begin_transfer(struct scratch *scratch, struct connection *connection,
                                           struct movement *movement, __u64 position, __u64 wanted,
                                           __u32 budget, __u64 ktime_ns, __u64 thread) {
    struct transfer *transfer = &scratch->transfer;

    __builtin_memset(transfer, 0, sizeof(*transfer));
    scratch->owner = bpf_get_current_pid_tgid();
    transfer->cookie = connection->socket.cookie;
    transfer->ktime_ns = ktime_ns;
    transfer->thread = thread;
    transfer->direction = movement->direction;
    transfer->delivered = position;
    transfer->end = position + movement->bytes;
    transfer->wanted = wanted;
    transfer->budget = budget;
    if (movement->form == FORM_MMSGHDR) {
        transfer->message = movement->address;
        transfer->messages_left = movement->extent;
    } else if (movement->form == FORM_BUFFER) {
        transfer->segment = movement->address;
        transfer->segment_left = movement->bytes;
        transfer->message_left = movement->bytes;
    } else {
        descend_to_iovecs(movement, &transfer->iovec, &transfer->iovecs_left);
        transfer->message_left = movement->bytes;
    }
}

/* Turns a movement on an HTTP connection into records; leaves the rest to the tail program, which it calls,
 * when the call has more than one buffer or chunk. */
static __always_inline void capture_movement(void *context, struct scratch *scratch,
                                             struct connection *connection, struct movement *movement,
                                             __u32 budget, __u64 ktime_ns, __u64 thread) {
    __u32 direction = movement->direction & 1;
    struct stream_state *stream = &connection->streams[direction];
    __u64 position = stream->position;
    __u64 bytes = movement->bytes, wanted = bytes, length, payload_length = 0;
    __u32 missing = 0;

    __sync_fetch_and_add(&stream->position, bytes);
    if (connection->turn != direction) {
        deliver_uncaptured(&scratch->record, connection, !direction);
        connection->turn = direction;
        stream->spent = 0;
    }
    if (movement->form == FORM_UNSEEN || movement->form == FORM_DISCARDED) {
        missing = movement->form == FORM_UNSEEN ? MISSING_SENDFILE : MISSING_UNREADABLE;
    } else {
        if (stream->spent >= budget) {
            note_over_budget(connection, direction, position + bytes, bytes, ktime_ns);
            return;
        }
        if (wanted > budget - stream->spent)
            wanted = budget - stream->spent;
        length = wanted;
        asm volatile("" : "+r"(length));
        if (movement->form != FORM_BUFFER || length > CHUNK_BYTES) {
            begin_transfer(scratch, connection, movement, position, wanted, budget, ktime_ns, thread);
            continuations.call(context, CONTINUE_TRANSFER);
            return;
        }
        if (read_user(scratch->payload, length, (void *)movement->address) == 0)
            payload_length = length;
        else
            missing = MISSING_UNREADABLE;
    }
    deliver_data(&scratch->record, connection, direction, position, wanted, payload_length, missing, ktime_ns,
                 thread);
    if (missing)
        count(missing == MISSING_SENDFILE ? COUNTER_SENDFILE_BYTES : COUNTER_UNREADABLE_BYTES, wanted);
    if (wanted < bytes)
        note_over_budget(connection, direction, position + bytes, bytes - wanted, ktime_ns);
}

#endif
