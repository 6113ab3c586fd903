/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/thread.h"
#include "block/live.h"
#include "vmm/disk_image.h"
#include "vmm/disk_private.h"

static int start_thread(struct disk *disk, unsigned index, struct err *err)
{
    char name[THREAD_NAME_MAX + 1];
    int r;

    snprintf(name, sizeof(name), "disk%u", index);
    r = loop_thread_start(&disk->thread, name, err);
    if (r < 0)
        err_prefix(err, "%s", disk->config->path);
    return r;
}

static void end_thread(struct disk *disk)
{
    loop_thread_stop(&disk->thread);
    block_port_done(&disk->port);
    block_job_done(&disk->job);
    loop_thread_free(&disk->thread);
}

/* block_attach and block_detach run on the disk's thread. */
struct hand_over {
    struct disk *disk;
    struct err *err;
    int result;
};

static void attach(void *opaque)
{
    struct hand_over *job = opaque;

    block_port_set_limits(&job->disk->port, &job->disk->config->limits);
    job->result = block_attach(job->disk->port.block, job->disk->thread.loop, job->err);
}

static void detach(void *opaque)
{
    struct hand_over *job = opaque;

    disk_queue_stop(&job->disk->queue);
    block_job_wake(&job->disk->job);
    while (block_live_wait(job->disk->port.block))
        ; /* it may change the image */
    job->result = block_detach(job->disk->port.block);
}

int disk_open(const struct config *vm, unsigned index, struct open_files *files, struct loop *main,
              struct disk **ret_disk, struct err *err)
{
    const struct config_disk *config = &vm->disks[index];
    struct disk *disk = calloc(1, sizeof(*disk));
    struct hand_over job = {.disk = disk, .err = err};
    const struct disk_image which = {.vm = vm, .index = index, .files = files};
    struct block *block;
    int r;

    if (!disk)
        return err_set(err, -ENOMEM, "%s: out of memory", config->path);
    disk->vm = vm;
    disk->files = files;
    disk->index = index;
    disk->config = config;
    disk_image_name(index, disk->name);
    disk_queue_init(&disk->queue, main, &disk->port);
    disk_questions_init(&disk->questions, main, &disk->port);
    pthread_mutex_init(&disk->lock, NULL);
    r = disk_labels_set(&disk->labels, disk->name, config->path);
    if (r < 0) {
        err_set(err, r, "%s: out of memory", config->path);
        goto free_disk;
    }
    r = disk_image_open(&which, &block, err);
    if (r < 0)
        goto free_disk;
    r = start_thread(disk, index, err);
    if (r < 0)
        goto close_block;
    block_port_init(&disk->port, block, disk->thread.loop);
    loop_call(disk->thread.loop, attach, &job);
    r = job.result;
    if (r < 0)
        goto end_thread;
    disk->attached = true;
    *ret_disk = disk;
    return 0;

end_thread:
    end_thread(disk);
close_block:
    (void)block_close(block); /* nothing was written; the first failure is the one to tell */
free_disk:
    err_prefix(err, "disk %s", disk->name);
    disk_free(disk);
    return r;
}

void disk_cancel(struct disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    if (disk->attached)
        block_port_set_cancel(&disk->port, true);
    pthread_mutex_unlock(&disk->lock);
}

void disk_resume(struct disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    block_port_set_cancel(&disk->port, false);
    pthread_mutex_unlock(&disk->lock);
}

/* ---- limits ---------------------------------------------------------------------------------- */

struct new_limits {
    struct disk_question question;
    struct disk *disk;
    struct throttle_limits limits;
    struct disk_done done;
};

/* On the disk's thread. */
static void set_limits(struct disk_question *question, const struct block_port *port)
{
    struct new_limits *new = container_of(question, struct new_limits, question);

    block_port_set_limits(&new->disk->port, &new->limits);
}

static void limits_hold(struct disk_question *question)
{
    struct new_limits *new = container_of(question, struct new_limits, question);
    const struct err none = {0};

    new->done.fn(new->done.opaque, 0, &none);
    free(new);
}

int disk_set_limits(struct disk *disk, const struct throttle_limits *limits, struct disk_done done)
{
    struct new_limits *new = malloc(sizeof(*new));

    if (!new)
        return -ENOMEM;
    *new = (struct new_limits){
        .question = {.look = set_limits, .answered = limits_hold},
        .disk = disk,
        .limits = *limits,
        .done = done,
    };
    disk_ask(disk, &new->question);
    return 0;
}

/* ---- closing --------------------------------------------------------------------------------- */

static void set_state(struct disk *disk, bool attached, bool closing)
{
    pthread_mutex_lock(&disk->lock);
    disk->attached = attached;
    disk->closing = closing;
    pthread_mutex_unlock(&disk->lock);
}

int disk_close(struct disk *disk, struct err *err)
{
    struct hand_over job = {.disk = disk};
    int r;

    set_state(disk, true, true);
    if (disk->job.loop) /* there was one, or is */
        block_job_let(&disk->job, &disk->job.cancelled, true);
    loop_call(disk->thread.loop, detach, &job);
    set_state(disk, false, true);
    disk_queue_end(&disk->queue);
    end_thread(disk);
    disk_questions_end(&disk->questions);
    r = block_close(disk->port.block);
    if (job.result < 0)
        r = job.result;
    if (r < 0)
        err_set_errno(err, r, "%s: cannot flush: writes of the guest may be lost",
                      disk_label(disk));
    set_state(disk, false, false);
    return r;
}

void disk_ask(struct disk *disk, struct disk_question *question)
{
    disk_questions_ask(&disk->questions, question);
}

void disk_free(struct disk *disk)
{
    if (!disk)
        return;
    pthread_mutex_destroy(&disk->lock);
    disk_labels_done(&disk->labels);
    free(disk);
}

unsigned disk_in_flight(struct disk *disk)
{
    unsigned n;

    pthread_mutex_lock(&disk->lock);
    n = disk->attached ? block_port_in_flight(&disk->port) : 0;
    pthread_mutex_unlock(&disk->lock);
    return n;
}

bool disk_is_closing(struct disk *disk)
{
    bool closing;

    pthread_mutex_lock(&disk->lock);
    closing = disk->closing;
    pthread_mutex_unlock(&disk->lock);
    return closing;
}

struct block_port *disk_port(struct disk *disk)
{
    return &disk->port;
}

void disk_set_io_error(struct disk *disk, int error)
{
    if (error == 0 || disk->io_error == 0)
        disk->io_error = error;
}

int disk_io_error(const struct disk *disk)
{
    return disk->io_error;
}

const struct config_disk *disk_config(const struct disk *disk)
{
    return disk->config;
}

const char *disk_name(const struct disk *disk)
{
    return disk->name;
}

const char *disk_label(const struct disk *disk)
{
    return __atomic_load_n(&disk->labels.now, __ATOMIC_ACQUIRE);
}

const char *const *disk_label_place(const struct disk *disk)
{
    return &disk->labels.now;
}
