/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Every map of the kernel side. Sizes are bounds: what a full table refuses is counted, or is the least
 * recently used.
 */
#ifndef WIRESPAN_MAPS_H
#define WIRESPAN_MAPS_H

#include "records.h"

#define MAX_CONNECTIONS \
    32768 /* more than the agent tracks (20,000), so that eviction is the agent's decision */
#define MAX_PROCESSES 32768 /* processes with a policy of their own */
#define MAX_EXCLUDED 1024   /* connections that the agent itself opened lately */
#define MAX_PORTS 1024
#define TLS_SCRATCHES 4        /* threads of one CPU that are interrupted in a probe at once */
#define MAX_PORTS_OF_SETS 8192 /* of all port sets together */

/* Records for the agent. Written by all programs, read by the agent. Declared first: ring_wakeup relies on
 * it. */
BPF_RINGBUF_OUTPUT(records, RING_PAGES);

/* struct sock * → connection. Written by sys_exit and inet_sock_set_state; read by them and by
 * EventSource.inspect. Never deleted: reads can follow TCP_CLOSE, so a new inode number, a new handshake or
 * age retires an entry. */
BPF_TABLE("lru_hash", __u64, struct connection, connections, MAX_CONNECTIONS);

/* tgid → policy. Written by the agent and at fork and exec; read by all; deleted at the last thread's exit.
 */
BPF_TABLE("hash", __u32, struct process_policy, policy_by_tgid, MAX_PROCESSES);

/* Ports asked for. Written by the agent before attaching; read where a connection is first seen. */
BPF_TABLE("hash", __u16, __u8, ports, MAX_PORTS);

/* Ports that single processes are captured at. Written by the agent before a policy names the set, deleted
 * once none does; read at each movement of such a process, for its set may be another one by then. */
struct port_of_set {
    __u16 set;
    __u16 port;
};
BPF_TABLE("hash", struct port_of_set, __u8, port_sets, MAX_PORTS_OF_SETS);

/* Addresses of the agent's own connections, as the other end sees them, whatever network namespace that is
 * in. Written at the agent's connect; read at judging; retired by age. */
struct excluded_key {
    __u16 local_port;
    __u16 remote_port;
    __u8 local_address[16];
    __u8 remote_address[16];
};
BPF_TABLE("lru_hash", struct excluded_key, __u8, excluded, MAX_EXCLUDED);

/* enum counter, or COUNTERS + enum protocol → count. Written by all programs, read by the agent. */
BPF_PERCPU_ARRAY(counters, __u64, COUNTERS + MAX_PROTOCOLS);

/* Connections numbered so far, per CPU. One slot for sys_exit and one for inet_sock_set_state, which may
 * interrupt it. */
BPF_PERCPU_ARRAY(connection_numbers, __u64, 2);

/* The call whose bytes are being copied, kept across tail calls. */
struct transfer {
    __u64 cookie;
    __u64 ktime_ns;
    __u64 delivered; /* stream position up to which records were delivered */
    __u64 end;       /* stream position after the call */
    __u64 wanted;    /* bytes still to be copied: the call's, or what the budget leaves */
    __u64 segment;   /* user address of the next byte */
    __u64 segment_left;
    __u64 iovec; /* user address of the next struct iovec */
    __u64 iovecs_left;
    __u64 message_left; /* bytes that the current message moved and that are not copied yet */
    __u64 message;      /* user address of the next struct mmsghdr */
    __u64 messages_left;
    __u64 thread; /* tgid and tid that made the call, as bpf_get_current_pid_tgid gives them */
    __u32 filled; /* bytes gathered in the scratch */
    __u32 direction;
    __u32 budget; /* for a direction in one turn */
    __u32 reserved;
};

/* A call that moved bytes on a connection that is not judged yet, kept across the tail call to judging. */
struct unjudged_call {
    __u64 sk;
    __u64 address; /* the fields of struct movement */
    __u64 extent;
    __u64 bytes;
    __u64 thread; /* as of a transfer */
    __u32 direction;
    __u32 form;
    __u32 inode;
    __u32 reserved;
    struct process_policy policy;
};

/* Where a call is worked on: what is known of it, and a record under construction with twice a chunk behind
 * it, because the verifier knows that the offset is below one chunk and the length at most one, not that
 * their sum is. */
struct scratch {
    __u64 owner; /* thread that works in it: programs that are tail-called find it by that */
    __u64 users; /* in tls_scratches: threads that are in it or about to find out that they are not */
    struct unjudged_call unjudged;
    struct transfer transfer;
    struct socket_record record;
    __u8 payload[2 * CHUNK_BYTES];
};

/* Used only with preemption off and never from a softirq: sys_exit, exec. */
BPF_PERCPU_ARRAY(scratches, struct scratch, 1);

/* Where sys_exit goes on, by enum continuation. Filled by the compiler child. The programs that judge and
 * transfer are loaded a second time for TLS, with tls_scratches and tls_continuations in place of these. */
BPF_PROG_ARRAY(continuations, CONTINUATIONS);

#ifdef TLS
#define MAX_TLS_SESSIONS 32768
#define MAX_TLS_CALLS 16384   /* threads and goroutines that are inside a library at once */
#define MAX_CIPHERTEXTS 16384 /* records on their way from a library to a socket */

/* What is told apart by process and by a number that it has once: a session by its address there, a thread by
 * its id, a goroutine by its address. */
struct tls_key {
    __u64 number;
    __u32 tgid;
    __u32 reserved;
};

/* A TLS session of a library. */
struct tls_session {
    __u64 cookie; /* its entry in `connections`, 0 before there is one */
    __u64 sk;     /* of the socket that carries it, 0 while unknown */
    __u32 inode;
    __u8 library;   /* enum tls_library */
    __u8 fresh;     /* its handshake was seen, so plaintext is seen from the first byte on */
    __u8 inside[2]; /* by direction, for these have threads of their own: a call has not returned yet */
    __u8 missed;    /* one never did: its note was evicted, or the kernel could not await it */
    __u8 reserved[7];
};

/* Session → what is known of it. Written by probes and by sys_exit; deleted when the library frees it. */
BPF_TABLE("lru_hash", struct tls_key, struct tls_session, tls_sessions, MAX_TLS_SESSIONS);

/* A reading or writing call that a thread or goroutine is in. */
struct tls_call {
    struct tls_key session;
    __u64 buffer;
    __u64 moved; /* user address of the size_t that says how many bytes; 0: the result does */
    __u64 bytes; /* how many, once it has returned */
    __u32 direction;
    __u32 form;
    __u32 library;
    __u32 reserved;
};

/* Thread or goroutine → its call. Written at entry, deleted at return; one that never returned (longjmp) is
 * overwritten by the next. */
BPF_TABLE("lru_hash", struct tls_key, struct tls_call, tls_calls, MAX_TLS_CALLS);

/* Thread → the handshake that it is in: apart from the calls, which may cause one. */
BPF_TABLE("lru_hash", struct tls_key, struct tls_call, tls_handshakes, MAX_TLS_CALLS);

/* Bytes of a record that a session has made → the session: a socket that sends them carries it. */
struct ciphertext {
    __u64 words[4];
};
BPF_TABLE("lru_hash", struct ciphertext, struct tls_key, ciphertexts, MAX_CIPHERTEXTS);

/* Probes may be preempted by others on their CPU: each takes one that is free. */
BPF_PERCPU_ARRAY(tls_scratches, struct scratch, TLS_SCRATCHES);

/* Where the return of a call goes on, by enum continuation: programs of one kind only call each other. */
BPF_PROG_ARRAY(tls_continuations, CONTINUATIONS);
#endif

static __always_inline void count(__u32 index, __u64 amount) {
    __u64 *value = counters.lookup(&index);
    if (value)
        *value += amount;
}

#endif
