/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Every entry point of the kernel side: read this file to know all that is hooked. ebpf/compiler_child.py
 * attaches on_X to the raw tracepoint X. The rest is in the headers, in the order in which they include each
 * other: records, maps, sockets, emission, inference, protocols, connections, transfer, frames, policies,
 * judging, processes, tls_sessions, calls, tls_calls.
 */
#include "calls.h"
#include "tls_calls.h"

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

#ifdef TLS
int continue_tls(struct bpf_raw_tracepoint_args *ctx) {
    return handle_carrier();
}

/* In TLS libraries, by the names of ebpf/tls/probes.py. */
int openssl_read(struct probe_registers *ctx) {
    return enter_c_call(ctx, TLS_OPENSSL, INGRESS, FORM_BUFFER, 0);
}

int openssl_read_ex(struct probe_registers *ctx) {
    return enter_c_call(ctx, TLS_OPENSSL, INGRESS, FORM_BUFFER, C_FOURTH(ctx));
}

int openssl_write(struct probe_registers *ctx) {
    return enter_c_call(ctx, TLS_OPENSSL, EGRESS, FORM_BUFFER, 0);
}

int openssl_write_ex(struct probe_registers *ctx) {
    return enter_c_call(ctx, TLS_OPENSSL, EGRESS, FORM_BUFFER, C_FOURTH(ctx));
}

int openssl_write_ex2(struct probe_registers *ctx) {
    return enter_c_call(ctx, TLS_OPENSSL, EGRESS, FORM_BUFFER, C_FIFTH(ctx));
}

int openssl_sendfile(struct probe_registers *ctx) {
    return enter_c_call(ctx, TLS_OPENSSL, EGRESS, FORM_UNSEEN, 0);
}

int openssl_handshake(struct probe_registers *ctx) {
    return enter_handshake(ctx, TLS_OPENSSL);
}

int openssl_bio_write(struct probe_registers *ctx) {
    return handle_bio_write(ctx);
}

int openssl_free(struct probe_registers *ctx) {
    return handle_free(C_FIRST(ctx));
}

int gnutls_read(struct probe_registers *ctx) {
    return enter_c_call(ctx, TLS_GNUTLS, INGRESS, FORM_BUFFER, 0);
}

int gnutls_write(struct probe_registers *ctx) {
    return enter_c_call(ctx, TLS_GNUTLS, EGRESS, FORM_BUFFER, 0);
}

int gnutls_handshake(struct probe_registers *ctx) {
    return enter_handshake(ctx, TLS_GNUTLS);
}

int gnutls_free(struct probe_registers *ctx) {
    return handle_free(C_FIRST(ctx));
}

int tls_call_return(struct probe_registers *ctx) {
    return leave_c_call(ctx);
}

int tls_handshake_return(struct probe_registers *ctx) {
    return leave_handshake();
}

int go_read(struct probe_registers *ctx) {
    return enter_go_call(ctx, INGRESS);
}

int go_write(struct probe_registers *ctx) {
    return enter_go_call(ctx, EGRESS);
}

int go_return(struct probe_registers *ctx) {
    return leave_go_call(ctx);
}

int go_handshake(struct probe_registers *ctx) {
    return enter_go_handshake(ctx);
}

int go_close(struct probe_registers *ctx) {
    return handle_free(GO_FIRST(ctx));
}

/* Where a return goes on, before it is judged. */
int tls_plaintext(struct probe_registers *ctx) {
    return handle_plaintext(ctx);
}
#endif
