/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM for commands that only notes what is asked of it. Its disks are images that are not
 * attached, looked at on the loop of the test.
 */
#ifndef MINIVMM_TESTS_FAKE_VM_H
#define MINIVMM_TESTS_FAKE_VM_H

#include <stdbool.h>

#include "vmm/control/vm.h"

#define FAKE_VM_DISKS_MAX 2u

/* Its RAM: so many bytes from this address on, which the test fills. */
#define FAKE_VM_RAM 0x10000u
#define FAKE_VM_RAM_LEN 0x4000u

/* Where the RAM is for a CPU: page after page, but in the opposite order. */
#define FAKE_VM_VIRTUAL 0xffff800000000000ull

struct fake_vm {
    struct control_vm vm;
    enum vm_state state;
    bool has_button;
    bool counts_much; /* KVM has many counters, and they are large */
    /*
     * A letter for each, in order: b(utton) r(eset) q(uit) p(ause) c(ont), and with the number of a
     * network card u(p) d(own) a(nnounce).
     */
    char actions[64];
    bool has_balloon;
    uint64_t balloon_memory;
    int nballoon_stats; /* stat-a, stat-b with 1, 2, five seconds old */
    bool has_vsock;
    struct nic_info nics[2];

    bool hung_cpu;              /* questions wait for fake_vm_let_cpu_answer */
    struct cpu_question *asked; /* the one that waits */
    bool asked_of_all;          /* the last one */

    uint8_t ram[FAKE_VM_RAM_LEN];
    struct block_port ports[FAKE_VM_DISKS_MAX];
    struct disk_questions questions[FAKE_VM_DISKS_MAX];
};

/* Two CPUs, no disk. */
void fake_vm_init(struct fake_vm *fake);

/* Images are closed, and questions are answered first. */
void fake_vm_done(struct fake_vm *fake);

/* The CPU does not hang any more, and answers what it was asked meanwhile. */
void fake_vm_let_cpu_answer(struct fake_vm *fake);

/* Add the disk that is the image `path`. */
void fake_vm_add_disk(struct fake_vm *fake, struct loop *loop, const char *path);

#endif
