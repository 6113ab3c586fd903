/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The struct of a disk; private to disk.c and disk_ops.c.
 */
#ifndef MINIVMM_DISK_PRIVATE_H
#define MINIVMM_DISK_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/loop.h"
#include "block/port.h"
#include "vmm/config/config.h"
#include "vmm/disk_queue.h"

#define DISK_NAME_MAX 8

struct disk {
    const struct config_disk *config;
    char name[DISK_NAME_MAX];
    char *label;
    struct block *block; /* owner: the disk's thread, while attached */
    struct block_port port;
    struct throttle_limits limits;
    struct loop *loop;
    pthread_t thread;
    struct disk_queue queue;

    pthread_mutex_t lock; /* guards the rest: what other threads may ask for */
    bool attached;        /* `block` has requests in flight, or may have */
    bool closing;
};

#endif
