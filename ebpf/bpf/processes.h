/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Processes: their policy through fork, exec and exit, and the records that say what became of them.
 */
#ifndef WIRESPAN_PROCESSES_H
#define WIRESPAN_PROCESSES_H

#include "emission.h"

static __always_inline void set_policy(__u32 tgid, __u8 policy) {
    if (policy_by_tgid.update(&tgid, &policy) != 0)
        count(COUNTER_POLICY_TABLE_FULL, 1);
}

static __always_inline __u8 policy_of(__u32 tgid) {
    __u8 *policy = policy_by_tgid.lookup(&tgid);
    return policy ? *policy : DEFAULT_POLICY;
}

/* A child starts with what its parent has, so that its first call is judged as the parent's would be. */
static __always_inline void inherit_policy(void *parent, void *child) {
    __u32 parent_tgid = 0, child_tgid = 0;

    READ_KERNEL(parent_tgid, parent, task_struct, tgid);
    READ_KERNEL(child_tgid, child, task_struct, tgid);
    if (parent_tgid == child_tgid) /* a thread */
        return;
    __u8 *policy = policy_by_tgid.lookup(&parent_tgid);
    if (policy)
        set_policy(child_tgid, *policy);
}

static __always_inline void deliver_executed(struct scratch *scratch, void *task, void *bprm, __u32 tgid) {
    struct process_record *record = (struct process_record *)scratch;
    __u8 *text = (__u8 *)scratch + sizeof(*record);
    void *filename = NULL, *mm = NULL;
    __u64 start = 0, end = 0;
    __u64 length;
    __s64 path_length;

    __builtin_memset(record, 0, sizeof(*record));
    record->kind = RECORD_PROCESS_EXECUTED;
    record->tgid = tgid;
    record->ktime_ns = bpf_ktime_get_ns();

    READ_KERNEL(filename, bprm, linux_binprm, filename);
    path_length = bpf_probe_read_kernel_str(text, PATH_BYTES, filename);
    if (path_length < 1 || path_length > PATH_BYTES)
        return;
    path_length--; /* without its NUL */

    READ_KERNEL(mm, task, task_struct, mm);
    READ_KERNEL(start, mm, mm_struct, arg_start);
    READ_KERNEL(end, mm, mm_struct, arg_end);
    length = end > start ? (end - start > ARGUMENTS_BYTES ? ARGUMENTS_BYTES : end - start) : 0;
    asm volatile("" : "+r"(length), "+r"(path_length));
    if (length > ARGUMENTS_BYTES || path_length < 0 || path_length > PATH_BYTES)
        return;
    if (bpf_probe_read_user(text + path_length, length, (void *)start) != 0)
        length = 0;
    record->path_length = path_length;
    record->arguments_length = length;
#ifdef JUDGE_BY_EXECUTABLE
    /* until the agent has judged it, all that it says is captured: that should not last for a whole drain */
    deliver_waking(record, sizeof(*record) + path_length + length, BPF_RB_FORCE_WAKEUP);
#else
    deliver(record, sizeof(*record) + path_length + length);
#endif
}

static __always_inline void deliver_exited(__u32 tgid) {
    struct process_record record = {
        .kind = RECORD_PROCESS_EXITED, .tgid = tgid, .ktime_ns = bpf_ktime_get_ns()};
    deliver(&record, sizeof(record));
}

#endif
