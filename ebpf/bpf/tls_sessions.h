/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * TLS sessions: their entries among the connections, and which socket carries which. A socket call inside a
 * library's call names the socket. Where the library hands its records to the program instead (memory BIO),
 * the program's own write of the same bytes does. Nothing else does: an address is never guessed.
 */
#ifndef WIRESPAN_TLS_SESSIONS_H
#define WIRESPAN_TLS_SESSIONS_H

#include "judging.h"

/* Whether a call on this connection may show which TLS session it carries. One that was joined late can't be
 * recognised by its bytes. */
static __always_inline int may_carry_session(struct connection *connection) {
#ifdef TLS
    if (connection->session || connection->socket.tls)
        return 0;
    return connection->verdict == VERDICT_TLS ||
           (connection->joined_late &&
            (connection->verdict == VERDICT_UNDECIDED || connection->verdict == VERDICT_UNKNOWN));
#else
    return 0;
#endif
}

#ifdef TLS
#define TLS_HEADER_BYTES 5 /* type, version, length (RFC 8446 section 5.1) */
#define TLS_MARK_BYTES 32  /* behind the header: unique by a random value or by encryption */
#define TLS_TYPE_FIRST 20  /* change_cipher_spec */
#define TLS_TYPE_HANDSHAKE 22
#define TLS_TYPE_LAST 23 /* application_data */
#define TLS_MAJOR_VERSION 3
#define TLS_CLIENT_HELLO 1           /* type of a handshake message */
#define TLS_RETRY_RANDOM 0x74ad21cfU /* HelloRetryRequest: always the same (RFC 8446 section 4.1.3) */
#define TLS_RANDOM_IN_MARK 6         /* of a hello message: behind its type, length and version */

/* The beginning of a record. The mark is read apart, so that it is aligned. */
struct record_start {
    __u8 header[8];
    struct ciphertext mark;
    int has_header;
    int has_mark;
};

static __always_inline struct tls_key this_thread(void) {
    __u64 pid_tgid = bpf_get_current_pid_tgid();
    struct tls_key key = {.number = (__u32)pid_tgid, .tgid = pid_tgid >> 32};
    return key;
}

/* The call or handshake that this thread is in. */
static __always_inline struct tls_call *find_call(struct tls_key *thread) {
    struct tls_call *call = tls_calls.lookup(thread);
    return call ? call : tls_handshakes.lookup(thread);
}

static __always_inline void read_record_start(struct record_start *start, __u64 address, __u64 length) {
    __builtin_memset(start, 0, sizeof(*start));
    if (length < TLS_HEADER_BYTES || read_user(start->header, TLS_HEADER_BYTES, (void *)address) != 0)
        return;
    start->has_header = start->header[0] >= TLS_TYPE_FIRST && start->header[0] <= TLS_TYPE_LAST &&
                        start->header[1] == TLS_MAJOR_VERSION;
    if (!start->has_header || length < TLS_HEADER_BYTES + TLS_MARK_BYTES)
        return;
    start->has_mark = read_user(&start->mark, TLS_MARK_BYTES, (void *)address + TLS_HEADER_BYTES) == 0 &&
                      (__u32)(start->mark.words[0] >> 8 * TLS_RANDOM_IN_MARK | start->mark.words[1] << 16) !=
                          TLS_RETRY_RANDOM;
}

/* Unique on this CPU by the time, also when one probe interrupts another; never the address of a socket, nor
 * the id of a connection that a call or a handshake has numbered. */
static __always_inline __u64 next_session_id(void) {
    return 1ULL << 63 | (__u64)(bpf_get_smp_processor_id() & 0x3ff) << 53 |
           (bpf_ktime_get_ns() & ((1ULL << 53) - 1));
}

/* The addresses of a session are those of the socket that carries it. */
static __always_inline void adopt_socket(struct connection *entry, struct connection *carrier) {
    __u64 cookie = entry->socket.cookie;
    __u8 protocol = entry->socket.protocol, tls = entry->socket.tls;

    entry->socket = carrier->socket;
    entry->socket.cookie = cookie;
    entry->socket.protocol = protocol;
    entry->socket.tls = tls;
    if (entry->role == ROLE_UNKNOWN)
        entry->role = carrier->role;
    if (!is_port_wanted(&entry->socket))
        entry->verdict = VERDICT_PORT;
    carrier->session = cookie;
}

static __always_inline struct tls_session *begin_session(struct tls_key *key, __u8 library, __u8 fresh) {
    struct tls_session session = {.library = library, .fresh = fresh};

    tls_sessions.update(key, &session);
    return tls_sessions.lookup(key);
}

/* The socket of a session, as long as it is still the same. */
static __always_inline struct connection *find_carrier(struct tls_session *session) {
    struct connection *carrier;
    __u64 key = session->sk;

    if (!key)
        return NULL;
    carrier = connections.lookup(&key);
    return carrier && carrier->socket.inode == session->inode ? carrier : NULL;
}

/* The entry of a session, made when it is first needed. One that was evicted begins late. */
static __always_inline struct connection *enter_session(struct connection *draft,
                                                        struct tls_session *session) {
    __u64 cookie = session->cookie;
    struct connection *carrier, *entry = cookie ? connections.lookup(&cookie) : NULL;

    if (entry)
        return entry;
    __builtin_memset(draft, 0, sizeof(*draft));
    draft->id = next_session_id();
    draft->seen_ktime_ns = bpf_ktime_get_ns();
    draft->joined_late = !session->fresh;
    draft->turn = 0xff;
    draft->socket.cookie = draft->id;
    draft->socket.tls = session->library;
    session->fresh = 0;
    session->cookie = draft->id;
    carrier = find_carrier(session);
    if (carrier)
        adopt_socket(draft, carrier);
    cookie = draft->id;
    if (connections.update(&cookie, draft) != 0) {
        count(COUNTER_CONNECTION_TABLE_FULL, 1);
        return NULL;
    }
    return connections.lookup(&cookie);
}

/* A session is over: its library forgets it, or its address serves another one. */
static __always_inline void end_session(struct socket_record *record, struct tls_session *session) {
    __u64 cookie = session->cookie;
    struct connection *entry = cookie ? connections.lookup(&cookie) : NULL;

    if (entry)
        deliver_closed(record, entry, bpf_ktime_get_ns());
}

/* `carrier` is the socket that carries the session. */
static __always_inline void bind_session(struct scratch *scratch, struct tls_key *key, __u8 library,
                                         struct connection *carrier, int is_handshake) {
    struct tls_session *session = tls_sessions.lookup(key);
    struct connection *entry;

    if (session && session->sk &&
        (session->sk != carrier->socket.cookie || session->inode != carrier->socket.inode)) {
        scratch->record.flags = 0;
        end_session(&scratch->record, session);
        session = NULL;
    }
    if (!session)
        session = begin_session(key, library, is_handshake);
    if (!session)
        return;
    session->sk = carrier->socket.cookie;
    session->inode = carrier->socket.inode;
    if (carrier->verdict != VERDICT_TLS)
        set_verdict(carrier, VERDICT_TLS, COUNTER_CONNECTIONS_TLS);
    entry = enter_session((struct connection *)scratch->payload, session);
    if (entry && entry->socket.family == FAMILY_UNKNOWN)
        adopt_socket(entry, carrier);
}

/* Where a client's hello begins in what moved, behind the header of its record or, where that was read by
 * itself, at once. Returns 0 where there is none. */
static __always_inline __u64 find_hello(struct record_start *start, __u64 address) {
    if (start->has_mark && start->header[0] == TLS_TYPE_HANDSHAKE &&
        (start->mark.words[0] & 0xff) == TLS_CLIENT_HELLO)
        return address + TLS_HEADER_BYTES;
    /* type, a length below 64 KiB, version */
    if (start->header[0] == TLS_CLIENT_HELLO && start->header[1] == 0 &&
        start->header[4] == TLS_MAJOR_VERSION)
        return address;
    return 0;
}

static __always_inline void deliver_hello(struct scratch *scratch, struct connection *carrier, __u64 hello,
                                          __u64 length) {
    struct hello_record *record = (struct hello_record *)scratch->payload;

    if (length > HELLO_BYTES)
        length = HELLO_BYTES;
    asm volatile("" : "+r"(length));
    if (length > HELLO_BYTES || read_user(scratch->payload + sizeof(*record), length, (void *)hello) != 0)
        return;
    __builtin_memset(record, 0, sizeof(*record));
    record->kind = RECORD_TLS_HELLO;
    record->tgid = bpf_get_current_pid_tgid() >> 32;
    record->ktime_ns = bpf_ktime_get_ns();
    record->inode = carrier->socket.inode;
    record->hello_length = length;
    deliver(record, sizeof(*record) + length);
}

/* sys_exit goes on here when bytes moved on a connection that carries TLS, and it is not known which session.
 */
static __always_inline int handle_carrier(void) {
    __u32 zero = 0;
    struct scratch *scratch = scratches.lookup(&zero);
    struct tls_key thread = this_thread();
    struct record_start start;
    struct connection *carrier;
    struct tls_call *inside;
    struct tls_key key;
    __u64 segment[2], hello;
    int is_handshake;

    if (!scratch || scratch->unjudged.policy.flags & POLICY_NO_TLS)
        return 0;
    struct unjudged_call *call = &scratch->unjudged;
    struct descriptor descriptor = {.sk = (void *)call->sk, .inode = call->inode};
    struct movement movement = {
        .form = call->form, .address = call->address, .extent = call->extent, .bytes = call->bytes};
    carrier = find_connection(&descriptor);
    if (!carrier || movement.form == FORM_UNSEEN || movement.form == FORM_DISCARDED)
        return 0;
    segment[0] = movement.address;
    segment[1] = movement.bytes;
    if (movement.form != FORM_BUFFER) {
        __u64 iovec = 0, iovecs = 0;
        descend_to_iovecs(&movement, &iovec, &iovecs);
        if (read_user(segment, sizeof(segment), (void *)iovec) != 0)
            return 0;
    }
    if (segment[1] > movement.bytes)
        segment[1] = movement.bytes;
    read_record_start(&start, segment[0], segment[1]);
    is_handshake = start.has_header && start.header[0] == TLS_TYPE_HANDSHAKE;
    /* a library that reads a header by itself shows more by what it reads next */
    if (is_handshake && call->direction == INGRESS && segment[1] == TLS_HEADER_BYTES)
        return 0;
    hello = find_hello(&start, segment[0]);
    if (hello && carrier->verdict == VERDICT_TLS) {
        is_handshake = 1;
        deliver_hello(scratch, carrier, hello, segment[1] - (hello - segment[0]));
    }
    inside = find_call(&thread);
    if (inside) {
        /* what a library asks of another service in the meantime is no TLS, or another session's call */
        if (carrier->verdict != VERDICT_TLS && !start.has_header)
            return 0;
        key = inside->session;
        bind_session(scratch, &key, inside->library, carrier, is_handshake);
        return 0;
    }
    if (call->direction != EGRESS || !start.has_mark)
        return 0;
    struct tls_key *author = ciphertexts.lookup(&start.mark);
    if (!author)
        return 0;
    key = *author;
    bind_session(scratch, &key, TLS_OPENSSL, carrier, 0);
    return 0;
}
#endif

#endif
