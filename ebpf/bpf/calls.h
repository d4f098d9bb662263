/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What each hooked event means. The filter runs from the cheapest question to the dearest: result, call
 * number, process, socket, connection, verdict, bytes.
 */
#ifndef WIRESPAN_CALLS_H
#define WIRESPAN_CALLS_H

#include <asm/unistd.h>

#include "processes.h"
#include "tls_sessions.h"

#define ERROR_IN_PROGRESS 115   /* EINPROGRESS */
#define FLAG_PEEK 0x2           /* MSG_PEEK: the bytes will be read again */
#define FLAG_TRUNC 0x20         /* MSG_TRUNC: on TCP the bytes are discarded */
#define FLAG_ERROR_QUEUE 0x2000 /* MSG_ERRQUEUE: not the stream's bytes */
#define PROTECTION_EXECUTE 0x4  /* PROT_EXEC */
#define MAPPING_ANONYMOUS 0x20  /* MAP_ANONYMOUS: of no file */
#define SHUTDOWN_READ 0
#define SHUTDOWN_WRITE 1

/* include/net/tcp_states.h */
enum tcp_state {
    TCP_STATE_ESTABLISHED = 1,
    TCP_STATE_SYN_SENT = 2,
    TCP_STATE_SYN_RECV = 3,
    TCP_STATE_FIN_WAIT1 = 4,
    TCP_STATE_CLOSE = 7,
    TCP_STATE_CLOSE_WAIT = 8,
    TCP_STATE_LAST_ACK = 9
};

/* A read returned 0. On a Unix socket that is the only sign that the other end is over. */
static __always_inline void end_ingress(struct scratch *scratch, struct connection *connection,
                                        __u64 ktime_ns, __u64 thread) {
    void *peer = NULL, *peer_socket = NULL;
    __u64 key;

    deliver_ended(&scratch->record, connection, INGRESS, ktime_ns, thread);
    if (connection->socket.family != FAMILY_UNIX)
        return;
    READ_KERNEL(peer, connection->socket.cookie, unix_sock, peer);
    if (!peer)
        return;
    key = (__u64)peer;
    struct connection *other = connections.lookup(&key);
    if (!other || other->socket.family != FAMILY_UNIX)
        return;
    deliver_ended(&scratch->record, other, EGRESS, ktime_ns, KERNEL_ITSELF);
    READ_KERNEL(peer_socket, peer, sock, sk_socket);
    if (!peer_socket)
        deliver_closed(&scratch->record, other, ktime_ns);
}

/* Unix sockets have no handshake event: which side connected is learnt from the call. */
static __always_inline void meet_unix_socket(void *task, __u32 fd, __u8 role) {
    struct descriptor descriptor = resolve_descriptor(task, fd);
    struct connection draft;
    __u16 family = 0;

    if (!descriptor.sk || descriptor.type != TYPE_STREAM)
        return;
    READ_KERNEL(family, descriptor.sk, sock_common, skc_family);
    if (family != FAMILY_UNIX)
        return;
    if (!find_connection(&descriptor))
        make_connection(&draft, descriptor.sk, descriptor.inode, role, 0, NUMBERED_BY_CALL);
}

/* shutdown on TCP shows as a change of state; on a Unix socket only here. */
static __always_inline void shut_unix_socket(void *task, __u32 fd, __u32 how, __u64 thread) {
    struct descriptor descriptor = resolve_descriptor(task, fd);
    struct connection *connection;
    __u32 zero = 0;
    struct scratch *scratch = scratches.lookup(&zero);
    __u64 ktime_ns = bpf_ktime_get_ns();

    if (!descriptor.sk || !scratch)
        return;
    scratch->record.flags = 0;
    connection = find_connection(&descriptor);
    if (!connection || connection->socket.family != FAMILY_UNIX)
        return;
    if (how != SHUTDOWN_WRITE)
        deliver_ended(&scratch->record, connection, INGRESS, ktime_ns, thread);
    if (how != SHUTDOWN_READ)
        deliver_ended(&scratch->record, connection, EGRESS, ktime_ns, thread);
}

/* Bytes were moved, or a read found the end of the stream. */
static __always_inline int handle_movement(void *ctx, void *task, __u32 fd, struct movement *movement,
                                           __u64 thread, struct process_policy *policy) {
    struct descriptor descriptor = resolve_descriptor(task, fd);
    struct connection *connection;
    struct unjudged_call *call;
    struct scratch *scratch;
    __u64 ktime_ns;
    __u32 zero = 0;

    if (!descriptor.sk || descriptor.type != TYPE_STREAM)
        return 0;
    connection = find_connection(&descriptor);
    if (connection && is_left_alone(connection->verdict) && !may_carry_session(connection))
        return 0;
    if (is_compat_call(task))
        return 0;
    if (connection && movement->form != FORM_MMSGHDR && !is_wanted(policy, connection)) {
        pass_by(connection, movement);
        return 0;
    }

    if (connection && movement->form != FORM_MMSGHDR && !is_stale(policy, connection) &&
        (connection->verdict == VERDICT_TURNS ||
         (connection->verdict != VERDICT_UNDECIDED && !movement->bytes))) {
        scratch = scratches.lookup(&zero);
        if (!scratch)
            return 0;
        ktime_ns = bpf_ktime_get_ns();
        connection->seen_ktime_ns = ktime_ns;
        scratch->record.flags = provisional_flag(policy);
        if (movement->bytes == 0) {
            end_ingress(scratch, connection, ktime_ns, thread);
            return 0;
        }
        return capture_turns(ctx, scratch, connection, movement, turn_budget(policy), thread, ktime_ns);
    }
    scratch = scratches.lookup(&zero);
    if (!scratch || movement->bytes == 0)
        return 0;
    scratch->owner = thread;
    call = &scratch->unjudged;
    call->sk = (__u64)descriptor.sk;
    call->address = movement->address;
    call->extent = movement->extent;
    call->bytes = movement->bytes;
    call->direction = movement->direction;
    call->form = movement->form;
    call->inode = descriptor.inode;
    call->thread = thread;
    call->policy = *policy;
    continuations.call(ctx, connection && is_left_alone(connection->verdict) &&
                                    !awaits_answer(connection, movement->direction)
                                ? CONTINUE_TLS
                                : CONTINUE_JUDGING);
    return 0;
}

/* sys_exit goes on here when the connection is new, undecided or stale, or speaks HTTP/2, and for several
 * messages at once: they are not in use on a stream, and to sum them up takes long to verify. */
static __always_inline int handle_unjudged(void *ctx) {
    struct scratch *scratch = find_scratch();
    struct unjudged_call *call;
    struct connection *connection;

    if (!scratch)
        return 0;
    call = &scratch->unjudged;
    if (call->form == FORM_MMSGHDR)
        sum_messages(call->address, call->extent, &call->bytes);
    struct descriptor descriptor = {.sk = (void *)call->sk, .inode = call->inode};
    struct movement movement = {.direction = call->direction & 1,
                                .form = call->form,
                                .address = call->address,
                                .extent = call->extent,
                                .bytes = call->bytes};
    connection = find_connection(&descriptor);
    if (!connection)
        connection = make_connection((struct connection *)scratch->payload, descriptor.sk, descriptor.inode,
                                     ROLE_UNKNOWN, 1, NUMBERED_BY_CALL);
    if (connection && movement.bytes > 0) {
        capture_or_judge(ctx, scratch, connection, &movement, &call->policy, call->thread);
        if (may_carry_session(connection))
            continuations.call(ctx, CONTINUE_TLS);
    }
    leave_scratch(scratch);
    return 0;
}

/* sys_exit goes on here when a socket was connected, accepted, paired or shut down. */
static __always_inline int handle_life(void *pt_regs, __s64 result) {
    struct registers registers = read_registers(pt_regs);
    void *task = current_task();
    __u64 thread = bpf_get_current_pid_tgid();
    __u32 tgid = thread >> 32;
    struct process_policy policy;
    __u32 pair[2] = {0, 0};
    __u32 fd = registers.first;
    __u8 role = ROLE_UNKNOWN;

    if (is_compat_call(task))
        return 0;
    if (tgid == AGENT_TGID) {
        if (registers.number == __NR_connect)
            remember_excluded(task, fd);
        return 0;
    }
    switch (registers.number) {
#ifdef TLS
    case __NR_mmap:
        policy = policy_of(tgid);
        if (!(read_fourth_argument(pt_regs) & MAPPING_ANONYMOUS) && !(policy.flags & POLICY_NO_TLS))
            deliver_mapped(task, read_fifth_argument(pt_regs), tgid);
        return 0;
#endif
    case __NR_shutdown:
        shut_unix_socket(task, fd, registers.second, thread);
        return 0;
    case __NR_connect:
        role = ROLE_CLIENT;
        break;
    case __NR_socketpair:
        if (read_user(pair, sizeof(pair), (void *)read_fourth_argument(pt_regs)) != 0)
            return 0;
        fd = pair[0];
        break;
    default:
        fd = result;
        role = ROLE_SERVER;
    }
    meet_unix_socket(task, fd, role);
    if (registers.number == __NR_socketpair)
        meet_unix_socket(task, pair[1], role);
    return 0;
}

static __always_inline int handle_call(void *ctx, void *pt_regs, __s64 result) {
    struct movement movement = {.direction = EGRESS, .form = FORM_BUFFER, .bytes = result};
    struct registers registers;
    __u64 flags = 0, thread;
    struct process_policy policy;
    __u32 fd, tgid;
    void *task;

    if (result < 0 && result != -ERROR_IN_PROGRESS)
        return 0;
    registers = read_registers(pt_regs);
    fd = registers.first;
    movement.address = registers.second;
    movement.extent = registers.third;

    switch (registers.number) {
    case __NR_read:
    case __NR_recvfrom:
        movement.direction = INGRESS;
        if (movement.extent == 0)
            return 0;
        break;
    case __NR_write:
    case __NR_sendto:
        break;
    case __NR_readv:
        movement.direction = INGRESS;
        movement.form = FORM_IOVEC;
        break;
    case __NR_writev:
        movement.form = FORM_IOVEC;
        break;
    case __NR_recvmsg:
        movement.direction = INGRESS;
        movement.form = FORM_MSGHDR;
        break;
    case __NR_sendmsg:
        movement.form = FORM_MSGHDR;
        break;
    case __NR_recvmmsg:
        movement.direction = INGRESS;
        movement.form = FORM_MMSGHDR;
        break;
    case __NR_sendmmsg:
        movement.form = FORM_MMSGHDR;
        break;
    case __NR_sendfile:
    case __NR_splice:
        movement.form = FORM_UNSEEN;
        break;
    case __NR_connect:
    case __NR_accept:
    case __NR_accept4:
    case __NR_socketpair:
    case __NR_shutdown:
#ifdef TLS
    case __NR_mmap:
        if (registers.number == __NR_mmap && (!(registers.third & PROTECTION_EXECUTE) || result == 0))
            return 0;
#endif
        tgid = bpf_get_current_pid_tgid() >> 32;
        policy = policy_of(tgid);
        if (tgid == AGENT_TGID || !is_ignored(&policy))
            continuations.call(ctx, CONTINUE_LIFE);
        return 0;
    default:
        return 0;
    }
    if (result < 0 || (result == 0 && movement.direction == EGRESS))
        return 0;

    thread = bpf_get_current_pid_tgid();
    tgid = thread >> 32;
    if (tgid == AGENT_TGID)
        return 0;
    policy = policy_of(tgid);
    if (is_ignored(&policy))
        return 0;
    task = current_task();

    if (movement.form == FORM_MMSGHDR)
        movement.extent = result;
    if (registers.number == __NR_recvmsg)
        flags = registers.third;
    else if (registers.number == __NR_recvfrom || registers.number == __NR_recvmmsg)
        flags = read_fourth_argument(pt_regs);
    if (flags & (FLAG_PEEK | FLAG_ERROR_QUEUE))
        return 0;
    if (flags & FLAG_TRUNC)
        movement.form = FORM_DISCARDED;
    if (registers.number == __NR_splice) {
        /* one end is a pipe; a socket at the other decides the direction */
        if (resolve_descriptor(task, registers.third).sk)
            fd = registers.third;
        else
            movement.direction = INGRESS;
    }
    return handle_movement(ctx, task, fd, &movement, thread, &policy);
}

/* sys_exit goes on here while a call has buffers left, and again until the kernel's bound on tail calls. */
static __always_inline int handle_continuation(void *ctx) {
    struct scratch *scratch = find_scratch();
    struct connection *connection;

    if (!scratch)
        return 0;
    connection = connections.lookup(&scratch->transfer.cookie);
    if (connection) {
        if (run_all_steps(scratch, connection, &scratch->transfer))
            continuations.call(ctx, CONTINUE_TRANSFER);
        abandon_frames(connection, &scratch->transfer);
        finish_transfer(scratch, connection, &scratch->transfer);
    }
    leave_scratch(scratch);
    return 0;
}

/* Whether it is known how far a connection got that the current process ends, which is no more once bytes of
 * it may have gone by unwatched. A process that exits has no policy any more and was watched until then. */
static __always_inline int is_end_known(struct connection *connection) {
    __u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct process_policy *policy = policy_by_tgid.lookup(&tgid);

    return !policy || !(is_ignored(policy) || is_stale(policy, connection));
}

static __always_inline int handle_tcp_state(void *sk, int old, int new) {
    struct socket_record record = {};
    struct connection draft;
    __u64 key = (__u64)sk;
    struct connection *connection, *session = NULL;

    if (new == TCP_STATE_ESTABLISHED) {
        if (old == TCP_STATE_SYN_SENT || old == TCP_STATE_SYN_RECV)
            make_connection(&draft, sk, 0, old == TCP_STATE_SYN_SENT ? ROLE_CLIENT : ROLE_SERVER, 0,
                            NUMBERED_BY_STATE);
        return 0;
    }
    if (new != TCP_STATE_FIN_WAIT1 &&new != TCP_STATE_LAST_ACK &&new != TCP_STATE_CLOSE)
        return 0;
    connection = connections.lookup(&key);
    if (!connection)
        return 0;
    if (connection->session) {
        key = connection->session;
        session = connections.lookup(&key);
    }
    if (session && new == TCP_STATE_CLOSE)
        deliver_closed(&record, session, bpf_ktime_get_ns());
    if (new == TCP_STATE_CLOSE)
        deliver_closed(&record, connection, bpf_ktime_get_ns());
    else if (session && session->opened && !session->closed)
        deliver_ended(&record, session, EGRESS, bpf_ktime_get_ns(), KERNEL_ITSELF);
    else if (connection->opened && is_end_known(connection))
        deliver_ended(&record, connection, EGRESS, bpf_ktime_get_ns(), KERNEL_ITSELF);
    return 0;
}

static __always_inline int handle_exec(void *task, void *bprm) {
    __u32 tgid = 0, zero = 0;
    struct scratch *scratch = scratches.lookup(&zero);
    struct process_policy policy;

    READ_KERNEL(tgid, task, task_struct, tgid);
    if (!scratch || tgid == AGENT_TGID)
        return 0;
    policy = policy_of(tgid);
#ifdef UNDECIDED_AT_EXEC
    struct process_policy undecided = {.flags = POLICY_UNDECIDED | (policy.flags & POLICY_NO_TLS),
                                       .since_ktime_ns = policy.since_ktime_ns};
    if (is_ignored(&policy))
        undecided.since_ktime_ns = bpf_ktime_get_ns();
    set_policy(tgid, &undecided);
    policy = undecided;
#endif
    if (!is_ignored(&policy))
        deliver_executed(scratch, task, bprm, tgid, &policy);
    return 0;
}

static __always_inline int handle_exit(void *task) {
    void *signal = NULL;
    struct process_policy policy;
    int live = 1;
    __u32 tgid = 0;

    READ_KERNEL(signal, task, task_struct, signal);
    READ_KERNEL(live, signal, signal_struct, live);
    if (live != 0) /* other threads go on, also when their leader is gone */
        return 0;
    READ_KERNEL(tgid, task, task_struct, tgid);
    policy = policy_of(tgid);
    if (!is_ignored(&policy))
        deliver_exited(tgid);
    policy_by_tgid.delete(&tgid);
    return 0;
}

#endif
