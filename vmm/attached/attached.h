/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is attached to a VM besides its disks: what outlives its guests, and is a virtio device in
 * each of them. A kind is one file in this folder and a line in the table of kinds.c.
 *
 *     attachments_init; kinds_attach       what the configuration wants is made
 *     for each guest: make_device … cancel, the device is freed
 *     attachments_close
 *
 * Queues are worked on by a thread that is not the main one, because the main thread waits for
 * vCPUs, and vCPUs wait for queues to stop. Small devices share a thread: attachments_loop.
 *
 * Main thread, except where noted.
 */
#ifndef MINIVMM_ATTACHED_ATTACHED_H
#define MINIVMM_ATTACHED_ATTACHED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/loop_thread.h"
#include "base/open_files.h"
#include "devices/virtio/virtio.h"
#include "memory/guest_mem.h"
#include "vmm/config/config.h"

struct attached;
struct chardev;
struct nic;

struct attached_ops {
    /* The device for a guest that begins. 0, or a negative errno with *err filled. */
    int (*make_device)(struct attached *attached, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev, struct err *err);
    /*
     * The guest is gone: what would keep its device from stopping ends early. Returns at once.
     * NULL: there is nothing like that.
     */
    void (*cancel)(struct attached *attached);
    /* Free it. No device uses it any more; the shared thread still runs. */
    void (*close)(struct attached *attached);
};

/* Embedded in what a kind has for each. */
struct attached {
    const struct attached_ops *ops;
};

struct balloon;
struct vsock;

struct attachments {
    const struct config *config;
    struct open_files *files; /* of the VM */
    struct loop *main;
    struct chardev *console; /* the host's end of the guest's console; NULL: it has none */
    struct attached **list;  /* in the order of the guest's devices */
    size_t n;
    struct loop_thread shared;
    bool has_shared;
    struct balloon *balloon; /* one of them; NULL: none */
    struct vsock *vsock;     /* the same */
    struct nic **nics;       /* some of them */
    size_t nnics;
};

/* The arguments outlive the attachments. */
void attachments_init(struct attachments *attachments, const struct config *config,
                      struct open_files *files, struct loop *main);

/* For kinds: one more. On failure the caller still owns it. 0, or -ENOMEM with *err filled. */
int attachments_add(struct attachments *attachments, struct attached *attached,
                    struct err *err) MUST_CHECK;

/* For kinds: the loop of the thread that small devices share. NULL with *err filled. */
struct loop *attachments_loop(struct attachments *attachments, struct err *err);

/* Later ones first. Harmless if all is zero. */
void attachments_close(struct attachments *attachments);

#endif
