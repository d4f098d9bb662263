/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the policy of a process takes of a connection, and what becomes of bytes that it leaves out: they
 * are counted or the connection begins anew, so that what lies on both sides of them never looks like
 * neighbours.
 */
#ifndef WIRESPAN_POLICIES_H
#define WIRESPAN_POLICIES_H

#include "frames.h"

static __always_inline int is_role_among(__u8 flags, __u8 role) {
    if (flags & POLICY_UNDECIDED)
        return 1;
    if (role == ROLE_UNKNOWN)
        return (flags & ~POLICY_NO_TLS) != POLICY_IGNORE;
    return flags & (role == ROLE_SERVER ? POLICY_CAPTURE_INGRESS : POLICY_CAPTURE_EGRESS);
}

/* Ports of a process are asked for anew at each movement: they change while it runs. A Unix socket has none.
 */
static __always_inline int is_port_of_process(__u16 set, struct socket_facts *facts) {
    struct port_of_set local = {.set = set, .port = facts->local_port};
    struct port_of_set remote = {.set = set, .port = facts->remote_port};

    return set == 0 || port_sets.lookup(&local) != NULL || port_sets.lookup(&remote) != NULL;
}

/* Whether the policy of a process takes this connection. */
static __always_inline int is_wanted(struct process_policy *policy, struct connection *connection) {
    if (is_role_among(policy->flags, connection->role) &&
        is_port_of_process(policy->port_set, &connection->socket))
        return 1;
    return connection->opened && is_role_among(policy->finishing, connection->role);
}

/* Whether bytes may have gone by that were neither captured nor counted, since this was last looked at. */
static __always_inline int is_stale(struct process_policy *policy, struct connection *connection) {
    return connection->seen_ktime_ns < policy->since_ktime_ns || connection->missed;
}

/* Bytes that the policy leaves out, which may change. On a connection that is captured they are a hole of
 * known length. Before that nothing is known that would be worth keeping. */
static __always_inline void pass_by(struct connection *connection, struct movement *movement) {
    struct stream_state *stream = &connection->streams[movement->direction & 1];

    if (!connection->opened) {
        connection->missed = 1;
        return;
    }
    __sync_fetch_and_add(&stream->position, movement->bytes);
    stream->missing |= MISSING_UNWANTED;
    note_uncaptured(stream, stream->position, bpf_ktime_get_ns());
    if (stream->framed)
        pass_unseen(stream, movement->bytes);
    count(COUNTER_UNWANTED_BYTES, movement->bytes);
}

static __always_inline __u32 turn_budget(struct process_policy *policy) {
    return policy->turn_budget ? policy->turn_budget : TURN_BUDGET;
}

static __always_inline __u8 provisional_flag(struct process_policy *policy) {
    return policy->flags & POLICY_UNDECIDED ? RECORD_PROVISIONAL : 0;
}

#endif
