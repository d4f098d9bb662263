/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What crosses from the kernel to the agent: the records in the ring buffer, the values of the maps that the
 * agent reads, and the numbers that both sides must agree on. Nothing else of the kernel side is visible
 * outside.
 *
 * ebpf/layout.py mirrors this file; tests/native holds the two equal. Every gap is named, so no byte is left
 * uninitialised: kernel memory must not leak into a recording.
 */
#ifndef WIRESPAN_RECORDS_H
#define WIRESPAN_RECORDS_H

#include <linux/types.h>

#define CHUNK_BYTES 8192     /* payload of one record; larger chunks gain nothing */
#define HELD_BYTES 16        /* first bytes kept of a direction until they can be judged */
#define ARGUMENTS_BYTES 512  /* copied of a command line */
#define PATH_BYTES 256       /* copied of an executable's path */
#define UNIX_PATH_BYTES 108  /* sizeof(sockaddr_un.sun_path) */
#define MAPPED_NAME_BYTES 64 /* of a file's name, with its NUL */
#define HELLO_BYTES                                                                         \
    4096 /* copied of a TLS client's first message; those with post-quantum keys have 1,800 \
          */

/* Of a process's cgroup and its ancestors, from the innermost on: a container's is at most five deep, and the
 * longest name, cri-containerd-<64 hex>.scope, has 85 bytes. */
#define CGROUP_LEVELS 6
#define CGROUP_NAME_BYTES 128 /* with its NUL */
/* behind a process record at most: of two cgroups, each with a NUL at its end */
#define PROCESS_TEXT_BYTES (PATH_BYTES + ARGUMENTS_BYTES + 2 * (CGROUP_LEVELS * CGROUP_NAME_BYTES + 1))

enum record_kind {
    RECORD_DATA = 1,
    RECORD_OPENED = 2,
    RECORD_ENDED = 3,
    RECORD_CLOSED = 4,
    RECORD_PROCESS_EXECUTED = 5,
    RECORD_PROCESS_EXITED = 6,
    RECORD_PROCESS_FORKED = 7,
    RECORD_FILE_MAPPED = 8,
    RECORD_TLS_HELLO = 9,
};

enum direction { INGRESS = 0, EGRESS = 1 };

enum role { ROLE_UNKNOWN = 0, ROLE_CLIENT = 1, ROLE_SERVER = 2 };

enum record_flag {
    RECORD_JOINED_LATE = 1, /* the connection was in use before it was first seen */
    RECORD_PROVISIONAL = 2, /* the process is POLICY_UNDECIDED: the agent keeps or drops it */
    RECORD_UNJUDGED = 4,    /* the connection is VERDICT_UNDECIDED: it counts once OPENED follows */
};

enum missing_cause {
    MISSING_RING_FULL = 1,
    MISSING_BUDGET = 2,
    MISSING_UNREADABLE = 4,
    MISSING_SENDFILE = 8,
    MISSING_IOVEC_BOUND = 16,
    MISSING_UNWANTED = 32,
};

/* The last one goes with any other. */
enum policy {
    POLICY_IGNORE = 0,
    POLICY_CAPTURE_INGRESS = 1,
    POLICY_CAPTURE_EGRESS = 2,
    POLICY_UNDECIDED = 4,
    POLICY_NO_TLS = 8, /* beside the others: TLS connections are left alone */
};

/* What is captured of a process: value of the policy map. */
struct process_policy {
    __u64 since_ktime_ns; /* bytes moved before went by unwatched */
    __u32 turn_budget;    /* bytes captured of a direction in one turn; 0: TURN_BUDGET */
    __u16 port_set;       /* only connections with a port of this set at either end; 0: every port */
    __u8 flags;           /* enum policy, or-ed */
    __u8 finishing; /* likewise: roles in which what is captured already goes on, whatever else is said */
};

/* Whose plaintext it is. */
enum tls_library { TLS_NONE = 0, TLS_OPENSSL = 1, TLS_GNUTLS = 2, TLS_GO = 3 };

/* FAMILY_UNKNOWN: a TLS session whose carrying socket is not known yet */
enum socket_family { FAMILY_UNKNOWN = 0, FAMILY_UNIX = 1, FAMILY_IPV4 = 2, FAMILY_IPV6 = 10 };

/* What is spoken on a connection that is captured, from the first captured byte on. */
/* PROTOCOL: a number. */
enum protocol {
    PROTOCOL_HTTP1 = 0,
    PROTOCOL_HTTP2 = 1,
};

#define MAX_PROTOCOLS 16 /* numbers that fit: each has a counter */

/* What becomes of a connection, by the first bytes of its turns. Decided once; what is left alone costs one
 * lookup afterwards. */
enum verdict {
    VERDICT_UNDECIDED = 0,
    VERDICT_TURNS = 1,    /* captured: both ends speak in turns, each with a budget */
    VERDICT_FRAMES = 2,   /* captured: HTTP/2, whose frames are followed */
    VERDICT_UNKNOWN = 3,  /* left alone, as all that follow: no protocol that is known */
    VERDICT_TLS = 4,      /* its plaintext may be captured as a connection of its own */
    VERDICT_EXCLUDED = 5, /* the agent's own connection, seen from its other end */
    VERDICT_PORT = 6,     /* neither port is one of those asked for */
};

static __always_inline int is_captured(__u8 verdict) {
    return verdict == VERDICT_TURNS || verdict == VERDICT_FRAMES;
}

static __always_inline int is_left_alone(__u8 verdict) {
    return verdict != VERDICT_UNDECIDED && !is_captured(verdict);
}

/* Index into the map of tail programs. */
enum continuation {
    CONTINUE_TRANSFER, /* a call has more than one buffer or chunk */
    CONTINUE_JUDGING,  /* bytes on a connection that is new or undecided */
    CONTINUE_LIFE,     /* connect, accept, socketpair, shutdown; mmap of code */
    CONTINUE_TLS,      /* bytes on a connection that carries TLS; a return from its library */
    CONTINUATIONS,     /* how many there are */
};

/* Index into the per-CPU counters. Bytes where the name says so, else occurrences. Behind the last one each
 * protocol beside HTTP has a count of its connections, by its number. */
enum counter {
    COUNTER_RING_FULL_RECORDS,
    COUNTER_RING_FULL_BYTES,
    COUNTER_BUDGET_BYTES,
    COUNTER_UNREADABLE_BYTES,
    COUNTER_SENDFILE_BYTES,
    COUNTER_IOVEC_BOUND_BYTES,
    COUNTER_CONNECTIONS_HTTP,
    COUNTER_CONNECTIONS_NOT_HTTP,
    COUNTER_CONNECTIONS_TLS,
    COUNTER_CONNECTIONS_HTTP2,
    COUNTER_CONNECTIONS_EXCLUDED,
    COUNTER_CONNECTION_TABLE_FULL,
    COUNTER_POLICY_TABLE_FULL,
    COUNTER_REJOINED_CONNECTIONS,
    COUNTER_UNWANTED_BYTES,
    COUNTERS, /* how many there are */
};

/* The socket as it was when the connection was first seen: at TCP_CLOSE the kernel has forgotten its ports.
 */
struct socket_facts {
    __u64 cookie; /* key of the connection map: address of the struct sock, or of a TLS session its id */
    __u32 inode;  /* 0 until the socket has a file */
    __u32 network_namespace;
    __u16 family; /* enum socket_family; an IPv4-mapped IPv6 socket is FAMILY_IPV4 */
    __u16 local_port;
    __u16 remote_port;
    __u8 protocol;          /* enum protocol, once the connection is judged */
    __u8 tls;               /* enum tls_library: these are the addresses of the socket that carries it */
    __u8 local_address[16]; /* network order; IPv4 fills the first four */
    __u8 remote_address[16];
};

struct socket_record {
    __u8 kind; /* enum record_kind: DATA, OPENED, ENDED, CLOSED */
    __u8 direction;
    __u8 role;
    __u8 flags; /* enum record_flag, or-ed */
    __u32 tgid; /* of the process that made the call; 0 when the kernel acted by itself */
    __u64 ktime_ns;
    __u64 connection_id;
    __u64 position;
    __u64 length;
    __u16 missing; /* enum missing_cause, or-ed */
    __u16 payload_length;
    __u32 tid; /* of the thread that made the call; 0 where tgid is */
    struct socket_facts socket;
    /* payload follows */
};

struct process_record {
    __u8 kind; /* PROCESS_EXECUTED, PROCESS_EXITED */
    __u8 reserved;
    __u16 cgroups_length;
    __u32 tgid;
    __u64 ktime_ns;
    __u32 path_length;
    __u32 arguments_length;
    /* Path, NUL-separated arguments and cgroups follow. Of each cgroup its name and those of its ancestors,
     * in this order, each ended by a NUL, and behind them another NUL. */
};

struct fork_record {
    __u8 kind; /* PROCESS_FORKED */
    __u8 reserved[3];
    __u32 tgid;
    __u64 ktime_ns;
    __u32 parent_tgid;
    __u32 reserved_too;
};

/* A process mapped a file as code. */
struct mapping_record {
    __u8 kind; /* FILE_MAPPED */
    __u8 reserved[3];
    __u32 tgid;
    __u64 ktime_ns;
    __u64 inode;
    char name[MAPPED_NAME_BYTES];
};

/* The first message of a TLS client (RFC 8446 section 4.1.2), which is not encrypted. */
struct hello_record {
    __u8 kind; /* TLS_HELLO */
    __u8 reserved[3];
    __u32 tgid;
    __u64 ktime_ns;
    __u32 inode; /* of the socket */
    __u32 hello_length;
    /* The message follows, possibly cut. */
};

/* One direction of a connection. `position` is added to atomically; the rest may lose a race between two
 * threads on one socket, which costs accuracy of a cause, never a position. */
struct stream_state {
    __u64 position;      /* bytes moved */
    __u64 reported;      /* position up to which records were delivered */
    __u64 lost_end;      /* position behind the last byte that is known to be uncaptured */
    __u64 lost_ktime_ns; /* when that byte moved */
    __u64 held_ktime_ns; /* when the held bytes moved */
    __u32 spent;         /* payload delivered this turn */
    __u16 missing;       /* causes since the last delivered record */
    __u16 held_length;   /* bytes of `held`, while undecided */
    __u64 held_thread;   /* tgid and tid that moved them, as bpf_get_current_pid_tgid gives them */
    __u16 framed;        /* HTTP/2: where frames begin and end is known, by the fields that follow */
    __u16 header_length; /* bytes in `held` of a frame's header that was cut by the end of a call */
    __u32 keep_left;     /* bytes of the current frame still to be captured */
    __u32 skip_left;     /* and those behind them that are counted only */
    __u32 kept;          /* payload of DATA frames captured since the budget was refilled */
    __u8 held[HELD_BYTES];
};

struct connection {
    __u64 id;            /* unique until it begins anew, and within one capture */
    __u64 seen_ktime_ns; /* when it was first seen, or when bytes on it were last captured or judged */
    __u8 verdict;
    __u8 role;
    __u8 joined_late;
    __u8 opened;   /* OPENED was delivered */
    __u8 closed;   /* TCP_CLOSE was seen; bytes received earlier may still be read */
    __u8 turn;     /* direction of the last bytes */
    __u8 turns;    /* changes of direction while undecided */
    __u8 ended;    /* directions whose end was delivered, one bit each */
    __u8 missed;   /* bytes went by that were neither captured nor counted */
    __u8 unjudged; /* directions whose bytes were delivered as RECORD_UNJUDGED, one bit each */
    __u8 reserved[6];
    __u64 session; /* cookie of the TLS session that this connection carries, 0 while none is known */
    struct stream_state streams[2]; /* by enum direction */
    struct socket_facts socket;
};

#endif
