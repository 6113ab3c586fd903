/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM as commands of clients see it. vmm/remote.c is the real one; tests have their own.
 *
 * A guest that is reset is another one of the same VM. The main thread only, except where
 * noted.
 */
#ifndef MINIVMM_CONTROL_VM_H
#define MINIVMM_CONTROL_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/byte_queue.h"
#include "base/list.h"
#include "vmm/attached/nic.h"
#include "vmm/cpu_questions.h"
#include "vmm/disk_questions.h"
#include "vmm/kvm_stats.h"

enum vm_state {
    VM_RUNNING,
    VM_DEBUG,   /* a debugger holds it, or will from its beginning, and nobody else does */
    VM_PAUSING, /* asked for, and not done yet */
    VM_PAUSED,
    VM_PRELAUNCH, /* paused before its first instruction */
    VM_IO_ERROR,  /* paused because a disk failed */
    VM_STOPPING,  /* it has ended, and is waited for */
    VM_NO_GUEST,  /* one has ended, and the next is not there yet */
};

struct vm_cpu {
    int thread_id; /* 0: it has not begun */
};

struct vm_counter {
    const char *name; /* for good */
    uint64_t value;
};

#define VM_COUNTERS_MAX 16

/* What can be shown to people, as lines; the first two are about a CPU. */
enum vm_topic {
    VM_TOPIC_REGISTERS,   /* of a CPU */
    VM_TOPIC_MAPPINGS,    /* its virtual memory */
    VM_TOPIC_MEMORY_TREE, /* what lies where in physical memory and among ports */
    VM_TOPIC_INTERRUPTS,
};

#define VM_PAGE_SIZE 4096u

struct vm_disk {
    char device[8];        /* what the guest calls it: "vda" */
    bool direct;           /* past the host's cache */
    bool no_flush;         /* flushes do not wait for the host's disk */
    const char *io_status; /* in QEMU's words; NULL: the guest is told of all failures */
};

struct control_vm;
struct disk;
struct qmp_request;

/* What can be found out. None of these waits. */
struct vm_queries {
    enum vm_state (*state)(struct control_vm *vm);
    /* False: there is no guest. */
    bool (*get_cpu)(struct control_vm *vm, unsigned index, struct vm_cpu *ret_cpu);
    /* How many it has; all are 0 without a guest. */
    unsigned (*get_cpu_counters)(struct control_vm *vm, unsigned index,
                                 struct vm_counter ret_counters[VM_COUNTERS_MAX]);
    /*
     * What KVM counts, of a CPU or of the whole VM (-1). False: it does not tell, or there is no
     * guest.
     */
    bool (*get_kvm_stats)(struct control_vm *vm, int cpu,
                          void (*each)(void *opaque, const struct kvm_stat *stat), void *opaque);
    /*
     * Print it; what is about a CPU on its thread, or on that of another one while all are outside
     * the guest. False: there is no guest.
     */
    bool (*show)(struct control_vm *vm, enum vm_topic topic, unsigned cpu, FILE *out);
    /* RAM at a physical address. Any thread. False: not all of it is RAM, or there is no guest. */
    bool (*read_memory)(struct control_vm *vm, uint64_t gpa, void *buf, size_t len);
    /* Where an address leads, as a CPU sees it; on its thread. False: nowhere. */
    bool (*translate)(struct control_vm *vm, unsigned cpu, uint64_t va, uint64_t *ret_gpa);
    /*
     * Answered later, on the main loop, or when the VM has ended; without a guest at once. The CPU
     * also looks at what is about all of them.
     */
    void (*ask_cpu)(struct control_vm *vm, unsigned cpu, struct cpu_question *question);
    struct disk *(*disk)(struct control_vm *vm, unsigned index);
    void (*get_disk)(struct control_vm *vm, unsigned index, struct vm_disk *ret_disk);
    /* Answered later, on the main loop, or when the disks are closed. */
    void (*ask_disk)(struct control_vm *vm, unsigned index, struct disk_question *question);
    /* Bytes of RAM that the guest has with its balloon. False: it has none. */
    bool (*get_balloon)(struct control_vm *vm, uint64_t *ret_memory);
    /* What the guest told of its memory last: how many figures, or -1: there is no balloon. */
    int (*get_balloon_stats)(struct control_vm *vm, struct vm_counter ret_counters[VM_COUNTERS_MAX],
                             uint64_t *ret_age_ms);
    /* What a vsock device has moved. How many figures; 0: there is none. */
    unsigned (*get_vsock_counters)(struct control_vm *vm,
                                   struct vm_counter ret_counters[VM_COUNTERS_MAX]);
    void (*get_nic)(struct control_vm *vm, unsigned index, struct nic_info *ret_info);
};

/* What can be done to it. Each returns at once; events tell what came of it. */
struct vm_actions {
    /* False: there is no button, or no guest. */
    bool (*press_power_button)(struct control_vm *vm);
    void (*reset)(struct control_vm *vm);
    void (*quit)(struct control_vm *vm);
    /* control_tell_paused follows, unless `resume` or the guest's end comes before. */
    void (*pause)(struct control_vm *vm);
    void (*resume)(struct control_vm *vm);
    /* Bytes of RAM that guests shall have. False: there is no balloon. */
    bool (*set_balloon)(struct control_vm *vm, uint64_t memory);
    /* The link of a network card, for this guest and later ones. */
    void (*set_link)(struct control_vm *vm, unsigned nic, bool up);
    /* The guest shall tell the network where it is. */
    void (*announce)(struct control_vm *vm, unsigned nic);
};

/* The host's end of a port of the guest. */
struct vm_port {
    const char *where; /* in QEMU's words: "stdio", "pty:/dev/pts/3"; NULL: there is no such port */
    /* The end of what it showed to somebody; NULL: none. */
    const struct byte_queue *shown;
};

struct control_vm {
    const struct vm_queries *queries;
    const struct vm_actions *actions;
    const char *name; /* NULL: none */
    unsigned ncpus;
    unsigned ndisks;
    unsigned nnics;
    uint64_t memory; /* bytes */
    struct vm_port serial;
    struct vm_port console;

    struct list jobs;     /* of disks, that clients began; owner: commands_job.c */
    struct list stopping; /* requests that wait for a pause; owner: commands_machine.c */
    struct list waiting;  /* and for the next guest, while one is stopping; the same */
    struct list asking;   /* for its state, which one that stops soon has not: the same */
    bool stops_long;      /* and this one does not stop soon */
};

/* The VM that a request is about: what the owner of the server gave for its commands. */
struct control_vm *vm_of(const struct qmp_request *request);

/* As query-status says it. */
const char *vm_state_name(enum vm_state state);

/* What clients call a CPU, as a path of objects. */
#define VM_CPU_PATH_MAX 32
void vm_cpu_path(unsigned index, char path[VM_CPU_PATH_MAX]);

#endif
