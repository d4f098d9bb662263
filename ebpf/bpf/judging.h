/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What becomes of bytes on a connection, whether they came by a system call or by a TLS library: judged,
 * captured or passed by.
 */
#ifndef WIRESPAN_JUDGING_H
#define WIRESPAN_JUDGING_H

#include "policies.h"

#define STATUS_LINE 0x2e312f50545448ULL /* "HTTP/1." as a little-endian word */
#define STATUS_LINE_BYTES 7

/* Whether the first answer is due on a connection that began like TLS: a server that speaks HTTP without it
 * says so in plain text. */
static __always_inline int awaits_answer(struct connection *connection, __u32 direction) {
    return connection->verdict == VERDICT_TLS && connection->turns == 1 && connection->turn != direction &&
           !connection->session;
}

/* Captures a movement on a connection that is judged, or may turn out to speak HTTP. */
static __always_inline int capture_turns(void *context, struct scratch *scratch,
                                         struct connection *connection, struct movement *movement,
                                         __u32 budget, __u64 thread, __u64 ktime_ns) {
    if (!connection->opened)
        open_connection(scratch, connection, movement->direction & 1, ktime_ns, thread);
    capture_movement(context, scratch, connection, movement, budget, ktime_ns, thread);
    return 0;
}

/* Bytes on a connection that is new, undecided or stale, or speaks HTTP/2. */
static __always_inline void capture_or_judge(void *context, struct scratch *scratch,
                                             struct connection *connection, struct movement *movement,
                                             struct process_policy *policy, __u64 thread) {
    __u64 ktime_ns = bpf_ktime_get_ns();
    struct window *window = (struct window *)scratch->payload;
    struct stream_state *stream;
    __u32 budget = turn_budget(policy);
    int is_old, is_answer;

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
    is_answer = awaits_answer(connection, movement->direction);
    if (connection->verdict == VERDICT_UNDECIDED || is_answer || seeks_frames(connection, stream)) {
        __builtin_memset(window, 0, sizeof(*window));
        window->length = read_first_bytes(scratch, movement);
        walk_frames(window, movement);
    }
    /* read anew: the verifier forgets each way that led here, and follows what comes once */
    movement->form = *(volatile __u32 *)&scratch->unjudged.form;
    movement->direction = *(volatile __u32 *)&scratch->unjudged.direction & 1;
    movement->bytes = *(volatile __u64 *)&scratch->unjudged.bytes;
    if (is_answer) {
        connection->turns++;
        if (window->length > STATUS_LINE_BYTES &&
            is_zero((window->first[0] ^ STATUS_LINE) & low_bytes(STATUS_LINE_BYTES)))
            connection->verdict = VERDICT_UNDECIDED;
    }
    if (connection->verdict == VERDICT_UNDECIDED) { /* no other thread was first */
        if (window->length > 0) {
            window->is_kept =
                judge(connection, movement->direction, window, movement->bytes, ktime_ns, thread);
        } else if (connection->turn == movement->direction &&
                   connection->unjudged & 1 << movement->direction) {
            window->is_kept = 1;
        } else { /* nothing to judge by: from here on its beginning is unknown */
            connection->joined_late = 1;
            return;
        }
    } else if (seeks_frames(connection, stream)) {
        find_frames(stream, window, movement->bytes);
    }
    if (connection->verdict == VERDICT_UNDECIDED) {
        if (!window->is_kept)
            return;
        if (budget > UNJUDGED_BUDGET)
            budget = UNJUDGED_BUDGET;
    } else if (is_left_alone(connection->verdict)) {
        return;
    } else if (!is_wanted(policy, connection)) { /* its role was not known before */
        pass_by(connection, movement);
        return;
    }
    if (follows_frames(connection, movement))
        capture_frames(context, scratch, connection, movement, budget, ktime_ns, thread);
    else
        capture_turns(context, scratch, connection, movement, budget, thread, ktime_ns);
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
