/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_blk_pause.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"

static void flushed(struct block_req *req, int result);

static void start_flush(struct blk_pause *pause)
{
    pause->flushing = true;
    pause->flush_ticket = pause->ticket;
    pause->flush = (struct block_req){.op = BLOCK_FLUSH, .done = flushed};
    block_port_submit(pause->port, &pause->flush);
}

void blk_pause_check(struct blk_pause *pause)
{
    if (blk_pause_is_on(pause) && !pause->told && !pause->flushing && pause->is_idle(pause))
        start_flush(pause);
}

/* The flush for a pause that was ended meanwhile says nothing of what was written since. */
static void flushed(struct block_req *req, int result)
{
    struct blk_pause *pause = container_of(req, struct blk_pause, flush);

    pause->flushing = false;
    if (pause->closing) {
        (void)sem_post(&pause->closed);
        return;
    }
    if (!blk_pause_is_on(pause) || pause->flush_ticket != pause->ticket) {
        blk_pause_check(pause);
        return;
    }
    if (result < 0 && result != -ECANCELED) /* the guest has ended meanwhile; others flush */
        log_warn("%s: flush failed while the VM pauses: %s: the image may lack what the guest "
                 "wrote last",
                 __atomic_load_n(pause->label, __ATOMIC_ACQUIRE), strerror(-result));
    pause->told = true;
    pause->pauser->paused(pause->pauser, pause->ticket);
}

/* Only the newest wish counts. */
static void apply(struct loop_work *work)
{
    struct blk_pause *pause = container_of(work, struct blk_pause, apply);
    bool was_on = blk_pause_is_on(pause);

    pthread_mutex_lock(&pause->lock);
    pause->pauser = pause->wanted_by;
    pause->ticket = pause->wanted_ticket;
    pthread_mutex_unlock(&pause->lock);
    pause->told = false;
    if (blk_pause_is_on(pause) != was_on)
        block_port_hurry(pause->port, !was_on); /* a pause does not wait for limits */
    blk_pause_check(pause);
    if (!blk_pause_is_on(pause))
        pause->ended(pause);
}

void blk_pause_init(struct blk_pause *pause)
{
    pthread_mutex_init(&pause->lock, NULL);
    pause->apply.run = apply;
    (void)sem_init(&pause->closed, 0, 0); /* fails only for values above SEM_VALUE_MAX */
}

static void close_on_loop(void *opaque)
{
    struct blk_pause *pause = opaque;

    loop_cancel(pause->loop, &pause->apply);
    if (blk_pause_is_on(pause))
        block_port_hurry(pause->port, false);
    pause->pauser = NULL;
    pause->closing = true;
    if (!pause->flushing)
        (void)sem_post(&pause->closed);
}

void blk_pause_done(struct blk_pause *pause)
{
    loop_call(pause->loop, close_on_loop, pause);
    while (sem_wait(&pause->closed) < 0)
        ; /* EINTR */
    sem_destroy(&pause->closed);
    pthread_mutex_destroy(&pause->lock);
}

void blk_pause_ask(struct blk_pause *pause, struct virtio_pauser *pauser, uint64_t ticket)
{
    pthread_mutex_lock(&pause->lock);
    pause->wanted_by = pauser;
    pause->wanted_ticket = ticket;
    pthread_mutex_unlock(&pause->lock);
    loop_post(pause->loop, &pause->apply);
}
