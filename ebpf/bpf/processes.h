/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Processes: their policy through fork, exec and exit, and the records that say what became of them.
 */
#ifndef WIRESPAN_PROCESSES_H
#define WIRESPAN_PROCESSES_H

#include "emission.h"

static __always_inline void set_policy(__u32 tgid, struct process_policy *policy) {
    if (policy_by_tgid.update(&tgid, policy) != 0)
        count(COUNTER_POLICY_TABLE_FULL, 1);
}

static __always_inline struct process_policy policy_of(__u32 tgid) {
    struct process_policy *own = policy_by_tgid.lookup(&tgid);
    struct process_policy policy = {.flags = DEFAULT_POLICY};

    if (own)
        policy = *own;
    return policy;
}

/* Whether nothing that the process does is looked at. */
static __always_inline int is_ignored(struct process_policy *policy) {
    return (policy->flags & ~POLICY_NO_TLS) == POLICY_IGNORE && policy->finishing == POLICY_IGNORE;
}

/* Until the agent has decided on a process, everything of it is captured: a whole drain is too long for that.
 */
static __always_inline void deliver_of_process(void *record, __u64 size, struct process_policy *policy) {
    deliver_waking(record, size, policy->flags & POLICY_UNDECIDED ? BPF_RB_FORCE_WAKEUP : ring_wakeup());
}

/* A child starts with what its parent has, so that its first call is treated as its parent's. */
static __always_inline void handle_fork(void *parent, void *child) {
    struct fork_record record = {.kind = RECORD_PROCESS_FORKED};
    __u32 parent_tgid = 0, child_tgid = 0;
    struct process_policy policy;

    READ_KERNEL(parent_tgid, parent, task_struct, tgid);
    READ_KERNEL(child_tgid, child, task_struct, tgid);
    if (parent_tgid == child_tgid) /* a thread */
        return;
    policy = policy_of(parent_tgid);
    if (policy_by_tgid.lookup(&parent_tgid))
        set_policy(child_tgid, &policy);
    if (is_ignored(&policy))
        return;
    record.tgid = child_tgid;
    record.ktime_ns = bpf_ktime_get_ns();
    record.parent_tgid = parent_tgid;
    deliver_of_process(&record, sizeof(record), &policy);
}

/* Appends the names of a cgroup and of its ancestors to `text`, whose first `length` bytes are in use.
 * Returns how many are in use then. */
static __always_inline __u64 append_cgroup(__u8 *text, __u64 length, void *cgroup) {
    void *node = NULL;

    READ_KERNEL(node, cgroup, cgroup, kn);
#pragma unroll
    for (int level = 0; level < CGROUP_LEVELS; level++) {
        void *name = NULL;
        __s64 copied;

        if (!node)
            break;
        READ_KERNEL(name, node, kernfs_node, name);
        if (length > PROCESS_TEXT_BYTES)
            break;
        copied = bpf_probe_read_kernel_str(text + length, CGROUP_NAME_BYTES, name);
        if (copied <= 1 || copied > CGROUP_NAME_BYTES) /* the root has no name */
            break;
        length += copied;
        asm volatile("" : "+r"(length));
        READ_KERNEL(node, node, kernfs_node, parent);
    }
    if (length > PROCESS_TEXT_BYTES)
        return length;
    text[length] = 0;
    return length + 1;
}

/* Appends the cgroups that show which container a process is in: that of the unified hierarchy and, where
 * there is one, that of a v1 hierarchy. */
static __always_inline __u64 append_cgroups(__u8 *text, __u64 length, void *task) {
    void *set = NULL, *unified = NULL, *state = NULL, *other = NULL, *root = NULL, *other_root = NULL;

    READ_KERNEL(set, task, task_struct, cgroups);
    READ_KERNEL(unified, set, css_set, dfl_cgrp);
    READ_KERNEL(state, set, css_set, subsys);
    READ_KERNEL(other, state, cgroup_subsys_state, cgroup);
    READ_KERNEL(root, unified, cgroup, root);
    READ_KERNEL(other_root, other, cgroup, root);
    length = append_cgroup(text, length, unified);
    if (other_root != root)
        length = append_cgroup(text, length, other);
    return length;
}

static __always_inline void deliver_executed(struct scratch *scratch, void *task, void *bprm, __u32 tgid,
                                             struct process_policy *policy) {
    struct process_record *record = (struct process_record *)scratch;
    __u8 *text = (__u8 *)scratch + sizeof(*record);
    void *filename = NULL, *mm = NULL;
    __u64 start = 0, end = 0;
    __u64 length, end_of_text;
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
    if (read_user(text + path_length, length, (void *)start) != 0)
        length = 0;
    record->path_length = path_length;
    record->arguments_length = length;
    end_of_text = append_cgroups(text, path_length + length, task);
    record->cgroups_length = end_of_text - path_length - length;
    deliver_of_process(record, sizeof(*record) + end_of_text, policy);
}

#ifdef TLS
/* Libraries whose probes should be in place before they are used, a few milliseconds after they are mapped.
 */
static __always_inline int is_urgent(char *name) {
    return name[0] == 'l' && name[1] == 'i' && name[2] == 'b' &&
           ((name[3] == 's' && name[4] == 's') || (name[3] == 'g' && name[4] == 'n') ||
            (name[3] == 'c' && name[4] == 'r'));
}

/* The current process has mapped the file as code. */
static __always_inline void deliver_mapped(void *task, __u32 fd, __u32 tgid) {
    struct mapping_record record = {.kind = RECORD_FILE_MAPPED, .tgid = tgid, .ktime_ns = bpf_ktime_get_ns()};
    void *file = NULL, *inode = NULL, *dentry = NULL, *name = NULL;

    file = read_file_pointer(task, fd);
    READ_KERNEL(inode, file, file, f_inode);
    READ_KERNEL(record.inode, inode, inode, i_ino);
    bpf_probe_read_kernel(&dentry, sizeof(dentry), file + OFFSET_file_f_path + OFFSET_path_dentry);
    bpf_probe_read_kernel(&name, sizeof(name), dentry + OFFSET_dentry_d_name + OFFSET_qstr_name);
    if (bpf_probe_read_kernel_str(record.name, sizeof(record.name), name) <= 0)
        return;
    deliver_waking(&record, sizeof(record), is_urgent(record.name) ? BPF_RB_FORCE_WAKEUP : ring_wakeup());
}
#endif

static __always_inline void deliver_exited(__u32 tgid) {
    struct process_record record = {
        .kind = RECORD_PROCESS_EXITED, .tgid = tgid, .ktime_ns = bpf_ktime_get_ns()};
    deliver(&record, sizeof(record));
}

#endif
