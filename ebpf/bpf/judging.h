/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What becomes of bytes on a connection, whether they came by a system call or by a TLS library: judged,
 * captured or passed by.
 */
#ifndef WIRESPAN_JUDGING_H
#define WIRESPAN_JUDGING_H

#include "policies.h"

/* Captures a movement on a connection that is judged HTTP. */
static __always_inline int capture_http(void *context, struct scratch *scratch, struct connection *connection,
                                        struct movement *movement, __u32 budget, __u32 tgid, __u64 ktime_ns) {
    if (!connection->opened)
        open_connection(scratch, connection, movement->direction & 1, ktime_ns, tgid);
    capture_movement(context, scratch, connection, movement, budget, ktime_ns, tgid);
    return 0;
}

/* Bytes on a connection that is new, undecided or stale, or speaks HTTP/2. */
static __always_inline void capture_or_judge(void *context, struct scratch *scratch,
                                             struct connection *connection, struct movement *movement,
                                             struct process_policy *policy, __u32 tgid) {
    __u64 ktime_ns = bpf_ktime_get_ns();
    struct window *window = (struct window *)scratch->payload;
    struct stream_state *stream;
    __u32 budget;
    int is_old;

    scratch->record.flags = provisional_flag(policy);
    /* opened and not judged: it began anew while another thread was about to open it */
    is_old = is_stale(policy, connection) || (connection->opened && connection->verdict == VERDICT_UNDECIDED);
    if (is_old && !connection->closed) /* what is still read of a closed one has no beginning */
        begin_anew(scratch, connection, ktime_ns);
    if ((is_old && connection->closed) || !is_wanted(policy, connection)) {
        pass_by(connection, movement);
        return;
    }
    connection->seen_ktime_ns = ktime_ns;
    stream = &connection->streams[movement->direction & 1];
    if (connection->verdict == VERDICT_UNDECIDED || seeks_frames(connection, stream)) {
        __builtin_memset(window, 0, sizeof(*window));
        window->length = read_first_bytes(scratch, movement);
        walk_frames(window, movement);
    }
    if (connection->verdict == VERDICT_UNDECIDED) { /* no other thread was first */
        if (window->length == 0) { /* nothing to judge by: from here on its beginning is unknown */
            connection->joined_late = 1;
            return;
        }
        judge(connection, movement->direction, window, movement->bytes, ktime_ns, tgid);
    } else if (seeks_frames(connection, stream)) {
        find_frames(stream, window, movement->bytes);
    }
    if (connection->verdict >= VERDICT_NOT_HTTP || connection->verdict == VERDICT_UNDECIDED)
        return;
    if (!is_wanted(policy, connection)) { /* its role was not known before */
        pass_by(connection, movement);
        return;
    }
    budget = turn_budget(policy);
    if (follows_frames(connection, movement))
        capture_frames(context, scratch, connection, movement, budget, ktime_ns, tgid);
    else
        capture_http(context, scratch, connection, movement, budget, tgid, ktime_ns);
}

/* The scratch that this thread works in, in a program that was tail-called. */
static __always_inline struct scratch *find_scratch(void) {
    __u64 thread = bpf_get_current_pid_tgid();

#pragma unroll
    for (__u32 i = 0; i < TLS_SCRATCHES; i++) {
        __u32 index = i;
        struct scratch *scratch = scratches.lookup(&index);
        if (!scratch)
            return NULL;
        if (scratch->owner == thread)
            return scratch;
    }
    return NULL;
}

static __always_inline void leave_scratch(struct scratch *scratch) {
    if (!scratch->users)
        return;
    scratch->owner = 0;
    __sync_fetch_and_add(&scratch->users, -1);
}

#endif
