/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Records into the ring. The only place that writes there, and the one where a full ring is noted: on the
 * connection, and in the counters.
 */
#ifndef WIRESPAN_EMISSION_H
#define WIRESPAN_EMISSION_H

#include "sockets.h"

#define KERNEL_ITSELF 0 /* in place of a thread: no call caused it */

/* The agent drains on a timer; it is woken only when the ring is half full, because a wake-up per record
 * costs the traced programs a third of their throughput. -1 is the map declared first. */
static __always_inline __u64 ring_wakeup(void) {
    __u64 waiting = bpf_ringbuf_query((void *)bpf_pseudo_fd(1, -1), BPF_RB_AVAIL_DATA);
    return waiting > RING_BYTES / 2 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline int deliver_waking(void *record, __u64 size, __u64 wakeup) {
    int failed;

    asm volatile("" : "+r"(size));
    if (size > sizeof(struct socket_record) + CHUNK_BYTES) /* never; said for the verifier */
        return 1;
    failed = records.ringbuf_output(record, size, wakeup);
    if (failed)
        count(COUNTER_RING_FULL_RECORDS, 1);
    return failed;
}

static __always_inline int deliver(void *record, __u64 size) {
    return deliver_waking(record, size, ring_wakeup());
}

/* Fills in everything but the payload. RECORD_PROVISIONAL stays as the entry point set it for the whole call.
 * `thread` is what bpf_get_current_pid_tgid said of the call, KERNEL_ITSELF when there was none. */
static __always_inline void begin_record(struct socket_record *record, struct connection *connection,
                                         __u8 kind, __u8 direction, __u64 ktime_ns, __u64 thread) {
    record->kind = kind;
    record->direction = direction;
    record->role = connection->role;
    record->flags = (record->flags & RECORD_PROVISIONAL) |
                    (connection->joined_late ? RECORD_JOINED_LATE : 0) |
                    (connection->verdict == VERDICT_UNDECIDED ? RECORD_UNJUDGED : 0);
    record->tgid = thread >> 32;
    record->tid = thread;
    record->ktime_ns = ktime_ns;
    record->connection_id = connection->id;
    record->position = connection->streams[direction & 1].position;
    record->length = 0;
    record->missing = 0;
    record->payload_length = 0;
    record->socket = connection->socket;
}

/* Notes that what lies before `end` and is not delivered yet never will be. Bytes that another thread is
 * about to deliver are not meant. */
static __always_inline void note_uncaptured(struct stream_state *stream, __u64 end, __u64 ktime_ns) {
    stream->lost_end = end;
    stream->lost_ktime_ns = ktime_ns;
}

/* Delivers a DATA record that covers `length` bytes from `position`; its payload, if any, already stands
 * behind it. */
static __always_inline void deliver_data(struct socket_record *record, struct connection *connection,
                                         __u32 direction, __u64 position, __u64 length, __u32 payload_length,
                                         __u32 missing, __u64 ktime_ns, __u64 thread) {
    struct stream_state *stream = &connection->streams[direction & 1];

    begin_record(record, connection, RECORD_DATA, direction, ktime_ns, thread);
    record->position = position;
    record->length = length;
    record->missing = stream->missing | missing;
    record->payload_length = payload_length;
    if (deliver(record, sizeof(*record) + payload_length)) {
        stream->missing |= missing | MISSING_RING_FULL;
        note_uncaptured(stream, position + length, ktime_ns);
        count(COUNTER_RING_FULL_BYTES, payload_length); /* bytes without payload were counted already */
        return;
    }
    stream->missing = 0;
    stream->reported = position + length;
    stream->spent += payload_length;
}

/* Says how many bytes of a direction went by uncaptured at its end, and when the last of them did. */
static __always_inline void deliver_uncaptured(struct socket_record *record, struct connection *connection,
                                               __u32 direction) {
    struct stream_state *stream = &connection->streams[direction & 1];
    __u64 reported = stream->reported;
    __u64 end = stream->lost_end;

    if (end > reported)
        deliver_data(record, connection, direction, reported, end - reported, 0, 0, stream->lost_ktime_ns,
                     KERNEL_ITSELF);
}

static __always_inline void deliver_ended(struct socket_record *record, struct connection *connection,
                                          __u32 direction, __u64 ktime_ns, __u64 thread) {
    __u8 bit = 1 << (direction & 1);

    if (!connection->opened || connection->ended & bit)
        return;
    deliver_uncaptured(record, connection, direction);
    begin_record(record, connection, RECORD_ENDED, direction, ktime_ns, thread);
    if (deliver(record, sizeof(*record)) == 0)
        connection->ended |= bit;
}

static __always_inline void deliver_closed(struct socket_record *record, struct connection *connection,
                                           __u64 ktime_ns) {
    if (connection->closed)
        return;
    connection->closed = 1;
    if (!connection->opened) {
        if (connection->verdict == VERDICT_UNDECIDED && connection->turns > 0)
            count(COUNTER_CONNECTIONS_NOT_HTTP, 1);
        return;
    }
    deliver_uncaptured(record, connection, INGRESS);
    deliver_uncaptured(record, connection, EGRESS);
    begin_record(record, connection, RECORD_CLOSED, INGRESS, ktime_ns, KERNEL_ITSELF);
    deliver(record, sizeof(*record));
}

#endif
