/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Every entry point of the kernel side: read this file to know all that is hooked. ebpf/compiler.py attaches
 * on_X to the raw tracepoint X. The rest is in the headers, in the order in which they include each other:
 * records, maps, sockets, emission, inference, connections, transfer, frames, policies, processes, calls.
 */
#include "calls.h"

/* Any system call has returned. */
int on_sys_exit(struct bpf_raw_tracepoint_args *ctx) {
    return handle_call(ctx, (void *)ctx->args[0], (__s64)ctx->args[1]);
}

/* Where sys_exit goes on: programs of their own, so that the common case stays short and each fits the
 * verifier's bounds. Named after enum continuation. */
int continue_transfer(struct bpf_raw_tracepoint_args *ctx) {
    return handle_continuation(ctx);
}

int continue_judging(struct bpf_raw_tracepoint_args *ctx) {
    return handle_unjudged(ctx);
}

int continue_life(struct bpf_raw_tracepoint_args *ctx) {
    return handle_life((void *)ctx->args[0], (__s64)ctx->args[1]);
}

/* A TCP socket changed its state: handshakes make connections, FIN and CLOSE end them. May run in a softirq.
 */
int on_inet_sock_set_state(struct bpf_raw_tracepoint_args *ctx) {
    return handle_tcp_state((void *)ctx->args[0], (int)ctx->args[1], (int)ctx->args[2]);
}

int on_sched_process_fork(struct bpf_raw_tracepoint_args *ctx) {
    handle_fork((void *)ctx->args[0], (void *)ctx->args[1]);
    return 0;
}

int on_sched_process_exec(struct bpf_raw_tracepoint_args *ctx) {
    return handle_exec((void *)ctx->args[0], (void *)ctx->args[2]);
}

int on_sched_process_exit(struct bpf_raw_tracepoint_args *ctx) {
    return handle_exit((void *)ctx->args[0]);
}
