/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The struct of a disk; private to disk.c, disk_ops.c and disk_jobs.c.
 */
#ifndef MINIVMM_DISK_PRIVATE_H
#define MINIVMM_DISK_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/loop_thread.h"
#include "base/open_files.h"
#include "block/job.h"
#include "block/port.h"
#include "vmm/config/config.h"
#include "vmm/disk_image.h"
#include "vmm/disk_label.h"
#include "vmm/disk_questions.h"
#include "vmm/disk_queue.h"

struct disk {
    const struct config *vm;
    const struct config_disk *config;
    struct open_files *files; /* of the VM */
    unsigned index;
    char name[DISK_NAME_MAX];
    struct disk_labels labels; /* set on the disk's thread, once that runs */
    struct block_port port;    /* its image may change while attached: with the lock held */
    struct loop_thread thread;
    struct disk_queue queue;
    struct disk_questions questions;
    struct block_job job;       /* the long operation that was asked for, if there is one */
    int io_error;               /* owner: the main thread */
    struct disk_job_op *job_op; /* owner: the main thread; NULL: none */

    pthread_mutex_t lock; /* guards the rest: what other threads may ask for */
    bool attached;        /* the image has requests in flight, or may have */
    bool closing;
};

#endif
