/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Connections: finding or making the entry of a socket, and judging what it carries.
 */
#ifndef WIRESPAN_CONNECTIONS_H
#define WIRESPAN_CONNECTIONS_H

#include "emission.h"
#include "inference.h"
#include "protocols.h"

/* Changes of direction that a connection may take to show a message start. Joined late, a body in flight is
 * over after two, and sixteen leave room for one that is uploaded in pieces with interim answers. From its
 * beginning on, what sets a tunnel up comes first: SOCKS with a password takes six. */
#define MAX_UNDECIDED_TURNS 16

/* Payload copied of a direction before the answer decides what it is. */
#define UNJUDGED_BUDGET CHUNK_BYTES

enum numbering { NUMBERED_BY_CALL = 0, NUMBERED_BY_STATE = 1 };

static __always_inline __u64 next_connection_id(__u32 numbering) {
    __u64 *numbers = connection_numbers.lookup(&numbering);
    __u64 number = 0;
    if (numbers)
        number = *numbers += 1;
    return (__u64)bpf_get_smp_processor_id() << 48 | (__u64)numbering << 47 | number;
}

static __always_inline int is_port_wanted(struct socket_facts *facts) {
#ifdef PORTS_IN_USE
    __u16 local = facts->local_port, remote = facts->remote_port;
    return ports.lookup(&local) != NULL || ports.lookup(&remote) != NULL;
#else
    return 1;
#endif
}

/* `draft` is room for the entry: on the stack in a softirq, where a per-CPU scratch could belong to the
 * interrupted program; in a scratch where the stack is short. */
static __always_inline struct connection *make_connection(struct connection *draft, void *sk, __u32 inode,
                                                          __u8 role, __u8 joined_late, __u32 numbering) {
    __u64 key = (__u64)sk;

    __builtin_memset(draft, 0, sizeof(*draft));
    draft->role = role;
    draft->joined_late = joined_late;
    draft->turn = 0xff;
    if (!describe_socket(&draft->socket, sk, inode))
        return NULL;
    draft->id = next_connection_id(numbering);
    draft->seen_ktime_ns = bpf_ktime_get_ns();
    if (!is_port_wanted(&draft->socket))
        draft->verdict = VERDICT_PORT;
    if (connections.update(&key, draft) != 0) {
        count(COUNTER_CONNECTION_TABLE_FULL, 1);
        return NULL;
    }
    return connections.lookup(&key);
}

/* The entry of a socket that a call just used. `sock` addresses are reused at once, so the inode number
 * decides whether it still is the same; an entry made at the handshake learns it here. */
static __always_inline struct connection *find_connection(struct descriptor *descriptor) {
    __u64 key = (__u64)descriptor->sk;
    struct connection *connection = connections.lookup(&key);

    if (!connection)
        return NULL;
    if (connection->socket.inode == descriptor->inode)
        return connection;
    if (connection->socket.inode != 0 || connection->closed || connection->socket.family == FAMILY_UNIX)
        return NULL;
    connection->socket.inode = descriptor->inode;
    return connection;
}

/* Goes on with a connection whose bytes passed unwatched for a while: under another id, so that what was
 * captured before and what comes are never taken for neighbours, and judged again like one that is older than
 * the agent. In place, because another thread may hold the entry. The agent gives up the old id in its time:
 * how that one ended is unknown. */
static __always_inline void begin_anew(struct scratch *scratch, struct connection *connection,
                                       __u64 ktime_ns) {
    connection->missed = 0;
    connection->seen_ktime_ns = ktime_ns;
    if (connection->opened) {
        deliver_uncaptured(&scratch->record, connection, INGRESS);
        deliver_uncaptured(&scratch->record, connection, EGRESS);
    }
    connection->id = next_connection_id(NUMBERED_BY_CALL);
    connection->verdict = VERDICT_UNDECIDED;
    connection->joined_late = 1;
    connection->opened = 0;
    connection->turn = 0xff;
    connection->turns = 0;
    connection->unjudged = 0;
    connection->ended = 0;
    connection->socket.protocol = PROTOCOL_HTTP1;
    __builtin_memset(connection->streams, 0, sizeof(connection->streams));
    count(COUNTER_REJOINED_CONNECTIONS, 1);
}

static __always_inline void set_verdict(struct connection *connection, __u8 verdict, __u32 counter) {
    connection->verdict = verdict;
    count(counter, 1);
}

/* The other end of a connection that the agent itself opened: capturing it would make every export cause
 * another. */
static __always_inline int is_excluded(struct socket_facts *facts) {
    struct excluded_key key = {.local_port = facts->local_port, .remote_port = facts->remote_port};

    if (facts->family == FAMILY_UNIX) {
        void *peer = NULL;
        __u32 tgid = 0;
        /* pid of the process that connected or made the pair, in the initial namespace */
        READ_KERNEL(peer, facts->cookie, sock, sk_peer_pid);
        bpf_probe_read_kernel(&tgid, sizeof(tgid), peer + OFFSET_pid_numbers + OFFSET_upid_nr);
        return tgid == AGENT_TGID;
    }
    __builtin_memcpy(key.local_address, facts->local_address, sizeof(key.local_address));
    __builtin_memcpy(key.remote_address, facts->remote_address, sizeof(key.remote_address));
    return excluded.lookup(&key) != NULL;
}

static __always_inline void remember_excluded(void *task, __u32 fd) {
    struct descriptor descriptor = resolve_descriptor(task, fd);
    struct socket_facts facts = {};
    struct excluded_key key = {};
    __u8 present = 1;

    if (!descriptor.sk || !describe_socket(&facts, descriptor.sk, 0) || facts.family == FAMILY_UNIX)
        return;
    key.local_port = facts.remote_port;
    key.remote_port = facts.local_port;
    __builtin_memcpy(key.local_address, facts.remote_address, sizeof(key.local_address));
    __builtin_memcpy(key.remote_address, facts.local_address, sizeof(key.remote_address));
    excluded.update(&key, &present);
}

/* Decides that a connection is captured, by a message that begins in `direction`. */
static __always_inline void become_captured(struct connection *connection, __u32 direction, __u8 protocol,
                                            enum inference inference) {
    int is_request = inference == INFERENCE_REQUEST || inference == INFERENCE_HTTP2_REQUEST;
    __u8 requester = is_request ? ROLE_CLIENT : ROLE_SERVER;
    __u8 answerer = is_request ? ROLE_SERVER : ROLE_CLIENT;

    if (is_excluded(&connection->socket)) {
        set_verdict(connection, VERDICT_EXCLUDED, COUNTER_CONNECTIONS_EXCLUDED);
        return;
    }
    if (connection->role == ROLE_UNKNOWN)
        connection->role = direction == EGRESS ? requester : answerer;
    if (inference == INFERENCE_HTTP2_REQUEST || inference == INFERENCE_HTTP2_RESPONSE) {
        connection->socket.protocol = PROTOCOL_HTTP2;
        set_verdict(connection, VERDICT_FRAMES, COUNTER_CONNECTIONS_HTTP2);
    } else if (protocol == PROTOCOL_HTTP1) {
        set_verdict(connection, VERDICT_TURNS, COUNTER_CONNECTIONS_HTTP);
    } else {
        connection->socket.protocol = protocol;
        set_verdict(connection, VERDICT_TURNS, COUNTERS + protocol);
    }
}

/* An HTTP/2 connection begins, in `direction` behind the `held_length` bytes held of it. Frames follow one
 * another from the beginning on; on a connection that was joined late, only in the direction where one was
 * seen to begin. */
static __always_inline void begin_frames(struct connection *connection, __u32 direction, __u32 held_length,
                                         int is_preface) {
    struct stream_state *stream = &connection->streams[direction & 1];
    struct stream_state *other = &connection->streams[!direction];

    stream->framed = 1;
    if (is_preface)
        stream->keep_left = PREFACE_BYTES - held_length;
    else
        stream->header_length = held_length;
    if (connection->joined_late || other->position > 0)
        return;
    other->framed = 1;
    if (!is_preface)
        other->keep_left = PREFACE_BYTES;
}

/* Numbers a direction from its next byte on. */
static __always_inline void begin_stream(struct stream_state *stream) {
    stream->position = 0;
    stream->reported = 0;
    stream->lost_end = 0;
    stream->spent = 0;
    stream->missing = 0;
    stream->held_length = 0;
}

/* What was delivered of an undecided connection did not begin a request after all. The agent forgets what
 * stands under the old id. */
static __always_inline void disown_unjudged(struct connection *connection) {
    connection->unjudged = 0;
    connection->id = next_connection_id(NUMBERED_BY_CALL);
}

/* A direction has its turn on an undecided connection: whatever came before of it is over. */
static __always_inline void take_turn(struct connection *connection, __u32 direction) {
    connection->turn = direction;
    connection->turns++;
    if (connection->unjudged & 1 << direction)
        disown_unjudged(connection);
    begin_stream(&connection->streams[direction]);
}

/* The first bytes of a connection, or of a turn, may be those of a TLS record (RFC 8446 section 5.1). Further
 * on they have to show more: a version that exists, and a hello or nothing behind the header. */
static __always_inline int is_tls_believed(struct connection *connection, __u32 direction, __u64 low,
                                           __u64 moved) {
    __u64 minor_version = low >> 16 & 0xff, message = low >> 40 & 0xff;

    if (connection->joined_late) /* in the middle of a stream they prove nothing */
        return 0;
    if (connection->turns < 2 && !(connection->unjudged & 1 << direction))
        return 1;
    return minor_version <= 4 && (moved == 5 || message == 1 || message == 2);
}

/* Begins the streams of a connection that was just judged, at the message that begins in `direction`
 * behind `held_length` bytes held of it. What was delivered before keeps its place in front. */
static __always_inline void begin_messages(struct connection *connection, __u32 direction, __u32 held_length,
                                           enum inference inference) {
    struct stream_state *stream = &connection->streams[direction];
    struct stream_state *other = &connection->streams[!direction];
    int is_answer = inference == INFERENCE_RESPONSE || inference == INFERENCE_HTTP2_RESPONSE;

    if (!(connection->unjudged & 1 << direction))
        stream->position = held_length;
    if (!(connection->unjudged & 1 << !direction) && other->position != other->held_length) {
        /* it carried what is not known, the request among it if this is an answer */
        begin_stream(other);
        if (is_answer)
            connection->joined_late = 1;
    }
    connection->turn = 0xff; /* what was not captured of the other direction is delivered first */
}

/* Judges an undecided connection by `window`, which holds the first bytes of a call that moved `moved`. Bytes
 * that can still become a match are held, up to HELD_BYTES in all. Afterwards the connection is captured and
 * the stream's position that of the call's first byte; or the verdict is open, and the return value says
 * whether the call is delivered all the same, because a later answer may show that a request begins with it.
 */
static __always_inline int judge(struct connection *connection, __u32 direction, struct window *window,
                                 __u64 moved, __u64 ktime_ns, __u64 thread) {
    struct stream_state *stream;
    __u64 *held;
    __u32 held_length;
    __u32 length = window->length;
    __u64 low = length < 8 ? window->first[0] & low_bytes(length) : window->first[0];
    __u64 high = length > 8 ? window->first[1] & low_bytes(length - 8) : 0;
    __u8 bit;
    enum inference inference;

    direction &= 1;
    bit = 1 << direction;
    stream = &connection->streams[direction];
    held = (__u64 *)stream->held;
    if (connection->turn != direction)
        take_turn(connection, direction);
    held_length = stream->held_length;
    if (held_length > 0 && held_length < 8) {
        __u32 shift = 8 * held_length;
        high = high << shift | low >> (64 - shift);
        low = low << shift | held[0];
        length += held_length;
    } else if (held_length >= 8 && held_length < HELD_BYTES) {
        high = low << 8 * (held_length - 8) | held[1];
        low = held[0];
        length += held_length;
    }
    if (length > HELD_BYTES)
        length = HELD_BYTES;
    window->verdict = infer(low, high, length);
    infer_beside_http(window, low, high, length);
    inference = window->verdict;
    if (inference == INFERENCE_NO_MATCH || inference == INFERENCE_POSSIBLE_REQUEST) {
        __u8 requester = ROLE_SERVER - direction; /* that of the socket, if requests pass in this direction */
        /* joined late, it may as well be text in the middle of a body */
        int may_request =
            !connection->joined_late && (connection->role == ROLE_UNKNOWN || connection->role == requester);
        enum inference framed = INFERENCE_NO_MATCH;

        if (connection->joined_late)
            framed = held_length > 0 ? INFERENCE_NO_MATCH : infer_frames(window, moved);
        else if (connection->role != requester && stream->position == held_length && connection->turns <= 2)
            framed = infer_settings(low, high, length);
        if (framed != INFERENCE_NO_MATCH || !may_request)
            inference = framed;
    }
    if (inference == INFERENCE_NEED_MORE && connection->unjudged & bit)
        inference = INFERENCE_NO_MATCH; /* in the middle of what is delivered nothing is held back */
    if (inference == INFERENCE_TLS && !is_tls_believed(connection, direction, low, moved))
        inference = INFERENCE_NO_MATCH;
    window->verdict = inference;
    inference = window->verdict;

    switch (inference) {
    case INFERENCE_NEED_MORE:
        held[0] = low;
        held[1] = high;
        if (held_length == 0) {
            stream->held_ktime_ns = ktime_ns;
            stream->held_thread = thread;
        }
        stream->held_length = held_length + moved;
        stream->position = stream->held_length;
        return 0;
    case INFERENCE_REQUEST:
    case INFERENCE_RESPONSE:
    case INFERENCE_HTTP2_REQUEST:
    case INFERENCE_HTTP2_RESPONSE:
        become_captured(connection, direction, window->protocol, inference);
        begin_messages(connection, direction, held_length, inference);
        if (connection->verdict == VERDICT_FRAMES)
            begin_frames(connection, direction, held_length,
                         window->frames == 0 && inference == INFERENCE_HTTP2_REQUEST);
        return 0;
    case INFERENCE_HTTP2_FRAMES:
        /* HTTP/2 surely, but nothing to begin with: the next head is, and shows which side is the client. A
         * stream of messages may go back and forth for hours before it. */
        connection->turns = 0;
        return 0;
    case INFERENCE_TLS:
        stream->position += moved;
        set_verdict(connection, VERDICT_TLS, COUNTER_CONNECTIONS_TLS);
        return 0;
    default:
        if (connection->unjudged & bit)
            return 1;
        if (connection->unjudged)
            disown_unjudged(connection);
        if (connection->turns >= MAX_UNDECIDED_TURNS) {
            set_verdict(connection, VERDICT_UNKNOWN, COUNTER_CONNECTIONS_NOT_HTTP);
            return 0;
        }
        if (inference == INFERENCE_POSSIBLE_REQUEST) {
            begin_stream(stream);
            stream->held_length = held_length;
            stream->position = held_length;
            connection->unjudged |= bit;
            return 1;
        }
        stream->held_length = 0;
        stream->position += moved;
        return 0;
    }
}

/* Delivers the bytes that were held of a direction until more could be said. */
static __always_inline void deliver_held(struct scratch *scratch, struct connection *connection,
                                         __u32 direction) {
    struct stream_state *stream = &connection->streams[direction & 1];
    __u32 held_length = stream->held_length;

    if (held_length == 0 || held_length > HELD_BYTES)
        return;
    __builtin_memcpy(scratch->payload, stream->held, HELD_BYTES);
    deliver_data(&scratch->record, connection, direction, 0, held_length, held_length, 0,
                 stream->held_ktime_ns, stream->held_thread);
    stream->held_length = 0;
}

/* Delivers what comes before the bytes of a call on a connection that is not opened: OPENED once it is
 * judged, and what was held of both directions. */
static __always_inline void open_connection(struct scratch *scratch, struct connection *connection,
                                            __u32 direction, __u64 ktime_ns, __u64 thread) {
    __u32 path_length = 0;

    if (connection->verdict == VERDICT_UNDECIDED) {
        deliver_held(scratch, connection, direction);
        return;
    }
    begin_record(&scratch->record, connection, RECORD_OPENED, direction, ktime_ns, thread);
    scratch->record.position = 0;
    if (connection->socket.family == FAMILY_UNIX)
        path_length = read_unix_path(scratch->payload, (void *)connection->socket.cookie);
    scratch->record.payload_length = path_length;
    if (path_length <= UNIX_PATH_BYTES &&
        deliver(&scratch->record, sizeof(scratch->record) + path_length) == 0)
        connection->opened = 1;
    deliver_held(scratch, connection, !direction);
    deliver_held(scratch, connection, direction);
}

#endif
