/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What probes in TLS libraries mean: a call is noted when it is entered, and its plaintext is captured when
 * it returns, as if a system call had moved it on a connection of its own.
 */
#ifndef WIRESPAN_TLS_CALLS_H
#define WIRESPAN_TLS_CALLS_H

#include "processes.h"
#include "tls_sessions.h"

#ifdef TLS
#define SECOND_WORD 8       /* of a Go interface: where its value is */
#define GO_DESCRIPTOR_AT 16 /* internal/poll.FD.Sysfd, the first member of net.netFD */

/* The registers of the probed thread, in the order of struct pt_regs and user_pt_regs of uapi/asm/ptrace.h. C
 * functions take their arguments by the System V ABI and AAPCS64, Go functions by https://go.dev/s/regabi:
 * there one register holds the goroutine. */
#ifdef __x86_64__
struct probe_registers {
    __u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#define C_FIRST(registers) ((registers)->di)
#define C_SECOND(registers) ((registers)->si)
#define C_THIRD(registers) ((registers)->dx)
#define C_FOURTH(registers) ((registers)->cx)
#define C_FIFTH(registers) ((registers)->r8)
#define C_RESULT(registers) ((registers)->ax)
#define GO_FIRST(registers) ((registers)->ax)
#define GO_SECOND(registers) ((registers)->bx)
#define GO_GOROUTINE(registers) ((registers)->r14)
#else
struct probe_registers {
    __u64 regs[31];
    __u64 sp, pc, pstate;
};
#define C_FIRST(registers) ((registers)->regs[0])
#define C_SECOND(registers) ((registers)->regs[1])
#define C_THIRD(registers) ((registers)->regs[2])
#define C_FOURTH(registers) ((registers)->regs[3])
#define C_FIFTH(registers) ((registers)->regs[4])
#define C_RESULT(registers) ((registers)->regs[0])
#define GO_FIRST(registers) ((registers)->regs[0])
#define GO_SECOND(registers) ((registers)->regs[1])
#define GO_GOROUTINE(registers) ((registers)->regs[28])
#endif

/* Whether what the process says over TLS is looked at. */
static __always_inline int is_tls_wanted(__u32 tgid, struct process_policy *policy) {
    return tgid != AGENT_TGID && !is_ignored(policy) && !(policy->flags & POLICY_NO_TLS);
}

static __always_inline int enter_call(struct tls_key thread, struct tls_call *call) {
    struct process_policy policy = policy_of(thread.tgid);
    struct tls_session *session;
    __u32 direction = call->direction & 1;

    if (!is_tls_wanted(thread.tgid, &policy))
        return 0;
    call->session.tgid = thread.tgid;
    session = tls_sessions.lookup(&call->session);
    if (session) {
        /* a Go function is entered once more when its stack had to grow */
        if (session->inside[direction] && !(call->library == TLS_GO && tls_calls.lookup(&thread)))
            session->missed = 1;
        session->inside[direction] = 1;
    }
    tls_calls.update(&thread, call);
    return 0;
}

/* A call has returned with nothing. */
static __always_inline void leave_session(struct tls_call *call) {
    struct tls_key key = call->session;
    struct tls_session *session = tls_sessions.lookup(&key);

    if (session)
        session->inside[call->direction & 1] = 0;
}

/* A C function (session, buffer, size, …). `moved`: where it will write how many bytes, or 0. */
static __always_inline int enter_c_call(struct probe_registers *registers, __u32 library, __u32 direction,
                                        __u32 form, __u64 moved) {
    struct tls_call call = {.session = {.number = C_FIRST(registers)},
                            .buffer = C_SECOND(registers),
                            .moved = moved,
                            .direction = direction,
                            .form = form,
                            .library = library};
    return enter_call(this_thread(), &call);
}

static __always_inline int enter_handshake(struct probe_registers *registers, __u32 library) {
    struct tls_key thread = this_thread();
    struct tls_call call = {.session = {.number = C_FIRST(registers), .tgid = thread.tgid},
                            .library = library};
    struct process_policy policy = policy_of(thread.tgid);

    if (is_tls_wanted(thread.tgid, &policy))
        tls_handshakes.update(&thread, &call);
    return 0;
}

static __always_inline int leave_handshake(void) {
    struct tls_key thread = this_thread();

    tls_handshakes.delete(&thread);
    return 0;
}

/* OpenSSL writes a record, to a socket or to memory. */
static __always_inline int handle_bio_write(struct probe_registers *registers) {
    struct tls_key thread = this_thread();
    struct tls_call *call = find_call(&thread);
    struct record_start start;
    struct tls_session *session;
    struct tls_key key;

    if (!call)
        return 0;
    key = call->session;
    session = tls_sessions.lookup(&key);
    if (session && session->sk)
        return 0;
    read_record_start(&start, C_SECOND(registers), (__u32)C_THIRD(registers));
    if (!start.has_mark)
        return 0;
    if (!session)
        begin_session(&key, call->library, start.header[0] == TLS_TYPE_HANDSHAKE);
    ciphertexts.update(&start.mark, &key);
    return 0;
}

static __always_inline int handle_free(__u64 number) {
    struct tls_key key = {.number = number, .tgid = bpf_get_current_pid_tgid() >> 32};
    struct tls_session *session = tls_sessions.lookup(&key);
    struct socket_record record = {};

    if (!session)
        return 0;
    end_session(&record, session);
    tls_sessions.delete(&key);
    return 0;
}

/* A scratch of this CPU that is not in use, or NULL. A probe adds itself first and looks then, so two are
 * never in the same, whenever one interrupts the other. */
static __always_inline struct scratch *take_scratch(void) {
#pragma unroll
    for (__u32 i = 0; i < TLS_SCRATCHES; i++) {
        __u32 index = i;
        struct scratch *scratch = tls_scratches.lookup(&index);
        if (!scratch)
            return NULL;
        __sync_fetch_and_add(&scratch->users, 1);
        if (*(volatile __u64 *)&scratch->users == 1) {
            scratch->owner = bpf_get_current_pid_tgid();
            return scratch;
        }
        __sync_fetch_and_add(&scratch->users, -1);
    }
    return NULL;
}

/* Follows a *tls.Conn to the descriptor of the net.TCPConn that it most often holds. What it finds in any
 * other is no socket, or none that carries TLS. */
static __always_inline struct connection *find_go_carrier(__u64 number) {
    __u64 value = 0, net_fd = 0;
    __s32 fd = -1;
    struct connection *carrier;

    if (read_user(&value, sizeof(value), (void *)number + SECOND_WORD) != 0 ||
        read_user(&net_fd, sizeof(net_fd), (void *)value) != 0 ||
        read_user(&fd, sizeof(fd), (void *)net_fd + GO_DESCRIPTOR_AT) != 0 || fd < 0)
        return NULL;
    struct descriptor descriptor = resolve_open_descriptor(current_task(), fd);
    if (!descriptor.sk || descriptor.type != TYPE_STREAM)
        return NULL;
    carrier = find_connection(&descriptor);
    return carrier && (carrier->verdict == VERDICT_TLS || may_carry_session(carrier)) ? carrier : NULL;
}

/* Hands a movement of plaintext over to judging. Returns only if it can't or need not be. */
static __always_inline void hand_over(void *context, struct scratch *scratch, struct tls_session *session,
                                      struct tls_call *call, struct process_policy *policy) {
    struct connection *entry = enter_session((struct connection *)scratch->payload, session);
    struct unjudged_call *unjudged = &scratch->unjudged;

    session->inside[call->direction & 1] = 0;
    if (!entry || is_left_alone(entry->verdict))
        return;
    if (session->missed) {
        session->missed = 0;
        entry->missed = 1;
    }
#ifdef PORTS_IN_USE
    if (entry->socket.family == FAMILY_UNKNOWN) {
        entry->missed = 1;
        return;
    }
#endif
    unjudged->sk = entry->socket.cookie;
    unjudged->inode = entry->socket.inode;
    unjudged->address = call->buffer;
    unjudged->extent = 0;
    unjudged->bytes = call->bytes;
    unjudged->direction = call->direction;
    unjudged->form = call->form;
    unjudged->thread = bpf_get_current_pid_tgid();
    unjudged->policy = *policy;
    tls_continuations.call(context, CONTINUE_JUDGING);
}

/* A call has returned; which one is noted at the thread. */
static __always_inline int handle_plaintext(void *context) {
    struct tls_key thread = this_thread();
    struct tls_call *noted = tls_calls.lookup(&thread);
    struct process_policy policy = policy_of(thread.tgid);
    struct tls_session *session;
    struct scratch *scratch;
    struct tls_call call;

    if (!noted || !is_tls_wanted(thread.tgid, &policy))
        return 0;
    call = *noted;
    tls_calls.delete(&thread);
    session = tls_sessions.lookup(&call.session);
    if (!session)
        session = begin_session(&call.session, call.library, 0);
    scratch = take_scratch();
    if (!session || !scratch) {
        count(COUNTER_UNREADABLE_BYTES, call.bytes);
        return 0;
    }
    if (call.library == TLS_GO && !session->sk) {
        struct connection *carrier = find_go_carrier(call.session.number);
        if (carrier)
            bind_session(scratch, &call.session, TLS_GO, carrier, 0);
    }
    hand_over(context, scratch, session, &call, &policy);
    leave_scratch(scratch);
    return 0;
}

static __always_inline int leave_c_call(struct probe_registers *registers) {
    struct tls_key thread = this_thread();
    struct tls_call *call = tls_calls.lookup(&thread);
    __s64 bytes = (__s32)C_RESULT(registers);

    if (!call)
        return 0;
    if (bytes > 0 && call->moved && read_user(&bytes, sizeof(bytes), (void *)call->moved) != 0)
        bytes = 0;
    if (bytes <= 0) {
        leave_session(call);
        tls_calls.delete(&thread);
        return 0;
    }
    call->bytes = bytes;
    tls_continuations.call(registers, CONTINUE_TLS);
    return 0;
}

static __always_inline struct tls_key this_goroutine(struct probe_registers *registers) {
    struct tls_key key = {.number = GO_GOROUTINE(registers), .tgid = bpf_get_current_pid_tgid() >> 32};
    return key;
}

/* crypto/tls.(*Conn).Read or Write (buffer []byte). */
static __always_inline int enter_go_call(struct probe_registers *registers, __u32 direction) {
    struct tls_call call = {.session = {.number = GO_FIRST(registers)},
                            .buffer = GO_SECOND(registers),
                            .direction = direction,
                            .form = FORM_BUFFER,
                            .library = TLS_GO};
    return enter_call(this_goroutine(registers), &call);
}

static __always_inline int leave_go_call(struct probe_registers *registers) {
    struct tls_key goroutine = this_goroutine(registers), thread = this_thread();
    struct tls_call *noted = tls_calls.lookup(&goroutine);
    __s64 bytes = GO_FIRST(registers);
    struct tls_call call;

    if (!noted)
        return 0;
    call = *noted;
    tls_calls.delete(&goroutine);
    if (bytes <= 0) {
        leave_session(&call);
        return 0;
    }
    call.bytes = bytes;
    tls_calls.update(&thread, &call);
    tls_continuations.call(registers, CONTINUE_TLS);
    return 0;
}

/* A connection begins: one that had this address before is over. */
static __always_inline int enter_go_handshake(struct probe_registers *registers) {
    struct tls_key key = {.number = GO_FIRST(registers), .tgid = bpf_get_current_pid_tgid() >> 32};
    struct process_policy policy = policy_of(key.tgid);

    if (!is_tls_wanted(key.tgid, &policy))
        return 0;
    handle_free(key.number);
    begin_session(&key, TLS_GO, 1);
    return 0;
}

#endif

#endif
