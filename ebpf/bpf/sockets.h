/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * From a system call to the socket under it. Offsets of kernel structs come from this kernel's BTF as
 * OFFSET_struct_member; the headers this is compiled against need not belong to the running kernel.
 */
#ifndef WIRESPAN_SOCKETS_H
#define WIRESPAN_SOCKETS_H

#include "maps.h"

/* The helper under another name: for each call of it by its own, bcc reads the whole of /proc/kallsyms to see
 * whether this kernel has it, which takes longer than the rest of compiling. */
static long (*read_user)(void *destination, __u32 size,
                         const void *source) = (void *)BPF_FUNC_probe_read_user;

#define READ_KERNEL(destination, base, structure, member) \
    bpf_probe_read_kernel(&(destination), sizeof(destination), (void *)(base) + OFFSET_##structure##_##member)

/* A BTF-typed program may load from the pointers it is given, for a tenth of what a helper costs. The load is
 * written as assembly because bcc turns every other dereference into that helper. The destination is eight
 * bytes; the load fills the lower `bits`. */
#ifdef TYPED
#define READ_TYPED(bits, destination, base, offset) \
    asm volatile("%0 = *(u" #bits " *)(%1 + %2)" : "=r"(destination) : "r"(base), "i"(offset))
#else
#define READ_TYPED(bits, destination, base, offset) \
    bpf_probe_read_kernel(&(destination), (bits) / 8, (void *)(base) + (offset))
#endif

static __always_inline void *current_task(void) {
#ifdef TYPED
    return (void *)bpf_get_current_task_btf();
#else
    return (void *)bpf_get_current_task();
#endif
}

#define FILE_TYPE_MASK 0170000
#define FILE_TYPE_SOCKET 0140000
#define TYPE_STREAM 1

/* The registers of a finished call: number and arguments, which no longer are where the ABI put them. */
struct registers {
    __u64 number;
    __u64 first;
    __u64 second;
    __u64 third;
};

#if defined(__x86_64__)
#define OFFSET_FOURTH_ARGUMENT OFFSET_pt_regs_r10
#define OFFSET_FIFTH_ARGUMENT OFFSET_pt_regs_r8

static __always_inline struct registers read_registers(void *pt_regs) {
    struct registers registers = {.number = -1};
#ifdef TYPED
    READ_TYPED(64, registers.number, pt_regs, OFFSET_pt_regs_orig_ax);
    READ_TYPED(64, registers.first, pt_regs, OFFSET_pt_regs_di);
    READ_TYPED(64, registers.second, pt_regs, OFFSET_pt_regs_si);
    READ_TYPED(64, registers.third, pt_regs, OFFSET_pt_regs_dx);
#else
    __u64 words[4]; /* dx, si, di, orig_ax: neighbours, so one read fetches all */
    if (bpf_probe_read_kernel(words, sizeof(words), pt_regs + OFFSET_pt_regs_dx) == 0) {
        registers.number = words[3];
        registers.first = words[2];
        registers.second = words[1];
        registers.third = words[0];
    }
#endif
    return registers;
}

/* A 32-bit task numbers its calls differently: TS_COMPAT in thread_info.status. */
static __always_inline int is_compat_call(void *task) {
    __u64 status = 0;
    READ_TYPED(32, status, task, OFFSET_task_struct_thread_info + OFFSET_thread_info_status);
    return status & 2;
}
#elif defined(__aarch64__)
#define OFFSET_FOURTH_ARGUMENT (OFFSET_pt_regs_regs + 3 * 8)
#define OFFSET_FIFTH_ARGUMENT (OFFSET_pt_regs_regs + 32)

static __always_inline struct registers read_registers(void *pt_regs) {
    __u64 words[2]; /* x1, x2: x0 already holds the result */
    __s32 number = -1;
    struct registers registers = {.number = -1};
    READ_KERNEL(number, pt_regs, pt_regs, syscallno);
    if (number >= 0 && bpf_probe_read_kernel(words, sizeof(words), pt_regs + OFFSET_pt_regs_regs + 8) == 0) {
        registers.number = number;
        registers.second = words[0];
        registers.third = words[1];
        READ_KERNEL(registers.first, pt_regs, pt_regs, orig_x0);
    }
    return registers;
}

/* TIF_32BIT in thread_info.flags. */
static __always_inline int is_compat_call(void *task) {
    __u64 flags = 0;
    READ_TYPED(64, flags, task, OFFSET_task_struct_thread_info + OFFSET_thread_info_flags);
    return flags >> 22 & 1;
}
#else
#error "wirespan captures on x86-64 and arm64"
#endif

static __always_inline __u64 read_fourth_argument(void *pt_regs) {
    __u64 value = 0;
    READ_TYPED(64, value, pt_regs, OFFSET_FOURTH_ARGUMENT);
    return value;
}

static __always_inline __u64 read_fifth_argument(void *pt_regs) {
    __u64 value = 0;
    READ_TYPED(64, value, pt_regs, OFFSET_FIFTH_ARGUMENT);
    return value;
}

/* The socket behind a descriptor. */
struct descriptor {
    void *sk; /* NULL: not a socket */
    __u32 inode;
    __u16 type;
};

#ifdef CASTS
/* bpf_rdonly_cast: the address of a struct as a pointer that may be loaded from, for no instruction at all.
 * It is not a helper but a function of the kernel, which bcc can't call: the loader puts its number in place
 * of this one. */
static void *(*cast)(void *address, __u64 type) = (void *)CAST_PLACEHOLDER;

static __always_inline struct descriptor resolve_file(void **slot) {
    struct descriptor found = {};
    __u64 mode = 0, type = 0, inode_number = 0;
    void *file = NULL, *inode = NULL, *socket = NULL;

    READ_TYPED(64, file, cast(slot, TYPE_list_head), 0); /* any struct that begins with a pointer */
    file = cast(file, TYPE_file);
    READ_TYPED(64, inode, file, OFFSET_file_f_inode);
    READ_TYPED(16, mode, inode, OFFSET_inode_i_mode);
    if ((mode & FILE_TYPE_MASK) != FILE_TYPE_SOCKET)
        return found;
    READ_TYPED(64, inode_number, inode, OFFSET_inode_i_ino);
    READ_TYPED(64, socket, file, OFFSET_file_private_data);
    socket = cast(socket, TYPE_socket);
    READ_TYPED(16, type, socket, OFFSET_socket_type);
    READ_TYPED(64, found.sk, socket, OFFSET_socket_sk);
    found.inode = inode_number;
    found.type = type;
    return found;
}
#else
static __always_inline struct descriptor resolve_file(void **slot) {
    struct descriptor found = {};
    void *file = NULL, *inode = NULL, *socket = NULL;
    __u8 inode_head[OFFSET_inode_i_ino + 8];
    __u8 socket_head[OFFSET_socket_sk + 8];

    bpf_probe_read_kernel(&file, sizeof(file), slot);
    READ_KERNEL(inode, file, file, f_inode);
    if (bpf_probe_read_kernel(inode_head, sizeof(inode_head), inode) != 0)
        return found;
    if ((*(__u16 *)(inode_head + OFFSET_inode_i_mode) & FILE_TYPE_MASK) != FILE_TYPE_SOCKET)
        return found;

    READ_KERNEL(socket, file, file, private_data);
    if (bpf_probe_read_kernel(socket_head, sizeof(socket_head), socket) != 0)
        return found;
    found.inode = *(__u32 *)(inode_head + OFFSET_inode_i_ino);
    found.type = *(__u16 *)(socket_head + OFFSET_socket_type);
    found.sk = *(void **)(socket_head + OFFSET_socket_sk);
    return found;
}
#endif

/* The caller's call on fd succeeded, so fd lies within its table. */
static __always_inline struct descriptor resolve_descriptor(void *task, __u32 fd) {
    void *files = NULL, *fdt = NULL, *table = NULL;

    READ_TYPED(64, files, task, OFFSET_task_struct_files);
    READ_TYPED(64, fdt, files, OFFSET_files_struct_fdt);
    READ_TYPED(64, table, fdt, OFFSET_fdtable_fd);
    return resolve_file((void **)table + fd);
}

/* The struct file behind a descriptor. */
static __always_inline void *read_file_pointer(void *task, __u32 fd) {
    void *files = NULL, *fdt = NULL, *table = NULL, *file = NULL;

    READ_TYPED(64, files, task, OFFSET_task_struct_files);
    READ_TYPED(64, fdt, files, OFFSET_files_struct_fdt);
    READ_TYPED(64, table, fdt, OFFSET_fdtable_fd);
    bpf_probe_read_kernel(&file, sizeof(file), (void **)table + fd);
    return file;
}

/* The same for a number that is said to be a descriptor. */
static __always_inline struct descriptor resolve_open_descriptor(void *task, __u32 fd) {
    void *files = NULL, *fdt = NULL;
    struct descriptor nothing = {};
    __u64 descriptors = 0;

    READ_TYPED(64, files, task, OFFSET_task_struct_files);
    READ_TYPED(64, fdt, files, OFFSET_files_struct_fdt);
    READ_TYPED(32, descriptors, fdt, OFFSET_fdtable_max_fds);
    return fd < (__u32)descriptors ? resolve_descriptor(task, fd) : nothing;
}

/* Family, addresses and ports. Returns whether the family is one that is captured. */
static __always_inline int describe_socket(struct socket_facts *facts, void *sk, __u32 inode) {
    __u16 family = 0, remote_port = 0;
    void *namespace = NULL;

    facts->cookie = (__u64)sk;
    facts->inode = inode;
    READ_KERNEL(family, sk, sock_common, skc_family);
    READ_KERNEL(namespace, sk, sock_common, skc_net);
    bpf_probe_read_kernel(&facts->network_namespace, sizeof(facts->network_namespace),
                          namespace + OFFSET_net_ns + OFFSET_ns_common_inum);
    facts->family = family;
    if (family == FAMILY_UNIX)
        return 1;
    if (family != FAMILY_IPV4 && family != FAMILY_IPV6)
        return 0;

    READ_KERNEL(facts->local_port, sk, sock_common, skc_num);
    READ_KERNEL(remote_port, sk, sock_common, skc_dport);
    facts->remote_port = __builtin_bswap16(remote_port);
    if (family == FAMILY_IPV6) {
        READ_KERNEL(facts->local_address, sk, sock_common, skc_v6_rcv_saddr);
        READ_KERNEL(facts->remote_address, sk, sock_common, skc_v6_daddr);
        /* ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2) is an IPv4 conversation and is named as its peer names it
         */
        __u64 *head = (__u64 *)facts->remote_address;
        __u32 *tail = (__u32 *)(facts->remote_address + 8);
        if (*head != 0 || *tail != 0xffff0000)
            return 1;
        facts->family = FAMILY_IPV4;
        __builtin_memset(facts->local_address, 0, sizeof(facts->local_address));
        __builtin_memset(facts->remote_address, 0, sizeof(facts->remote_address));
    }
    bpf_probe_read_kernel(facts->local_address, 4, sk + OFFSET_sock_common_skc_rcv_saddr);
    bpf_probe_read_kernel(facts->remote_address, 4, sk + OFFSET_sock_common_skc_daddr);
    return 1;
}

/* Path of a Unix socket: its own for the accepted end, its peer's for the connecting one. Returns its length.
 */
static __always_inline __u32 read_unix_path(__u8 *destination, void *sk) {
    void *address = NULL, *peer = NULL;
    __u32 address_length = 0;
    __u64 length;

    READ_KERNEL(address, sk, unix_sock, addr);
    if (!address) {
        READ_KERNEL(peer, sk, unix_sock, peer);
        if (peer)
            READ_KERNEL(address, peer, unix_sock, addr);
    }
    if (!address)
        return 0;
    READ_KERNEL(address_length, address, unix_address, len);
    if (address_length <= 2) /* the family alone: unnamed */
        return 0;
    length = address_length - 2;
    if (length > UNIX_PATH_BYTES)
        length = UNIX_PATH_BYTES;
    asm volatile("" : "+r"(length));
    if (length > UNIX_PATH_BYTES)
        return 0;
    if (bpf_probe_read_kernel(destination, length, address + OFFSET_unix_address_name + 2) != 0)
        return 0;
    return length;
}

#endif
