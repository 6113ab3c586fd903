/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pause.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"

/* ---- what other threads report --------------------------------------------------------------- */

void pause_cleared(struct pause *pause)
{
    loop_post(pause->loop, &pause->cleared);
}

static void on_resting(struct virtio_pauser *pauser, uint64_t ticket)
{
    struct pause *pause = container_of(pauser, struct pause, pauser);

    pthread_mutex_lock(&pause->lock);
    if (ticket == pause->ticket && ++pause->nresting == pause->ndevs)
        loop_post(pause->loop, &pause->drained);
    pthread_mutex_unlock(&pause->lock);
}

/* ---- the main thread ------------------------------------------------------------------------- */

/* The new ticket. */
static uint64_t begin_ticket(struct pause *pause)
{
    uint64_t ticket;

    pthread_mutex_lock(&pause->lock);
    ticket = ++pause->ticket;
    pause->nresting = 0;
    pthread_mutex_unlock(&pause->lock);
    return ticket;
}

static void finish(struct pause *pause)
{
    pause->state = PAUSE_DONE;
    pause->paused(pause);
}

/* The report may be old, or of somebody else's hold: the gate knows. */
static void on_cleared(struct loop_work *work)
{
    struct pause *pause = container_of(work, struct pause, cleared);
    uint64_t ticket;

    if (pause->over || pause->state != PAUSE_CLEARING || !gate_is_clear(pause->gate))
        return;
    pause->stop_clock(pause);
    pause->state = PAUSE_DRAINING;
    ticket = begin_ticket(pause);
    for (size_t i = 0; i < pause->ndevs; i++)
        pause->devs[i]->ops->pause(pause->devs[i], &pause->pauser, ticket);
    if (pause->ndevs == 0)
        finish(pause);
}

static void on_drained(struct loop_work *work)
{
    struct pause *pause = container_of(work, struct pause, drained);

    if (!pause->over && pause->state == PAUSE_DRAINING)
        finish(pause);
}

int pause_init(struct pause *pause, size_t max_devs)
{
    pause->devs = calloc(max_devs + 1, sizeof(struct virtio_dev *)); /* never 0 */
    if (!pause->devs)
        return -ENOMEM;
    pause->cleared.run = on_cleared;
    pause->drained.run = on_drained;
    pause->pauser.paused = on_resting;
    pthread_mutex_init(&pause->lock, NULL);
    return 0;
}

void pause_done(struct pause *pause)
{
    if (!pause->devs)
        return;
    loop_cancel(pause->loop, &pause->cleared);
    loop_cancel(pause->loop, &pause->drained);
    pthread_mutex_destroy(&pause->lock);
    free(pause->devs);
    pause->devs = NULL;
}

void pause_add_device(struct pause *pause, struct virtio_dev *dev)
{
    pause->devs[pause->ndevs++] = dev;
}

void pause_begin(struct pause *pause)
{
    assert(pause->state == PAUSE_NONE);
    pause->state = PAUSE_CLEARING;
    gate_hold(pause->gate);
}

void pause_give_up(struct pause *pause)
{
    pause->over = true;
}

void pause_end(struct pause *pause)
{
    assert(pause->state != PAUSE_NONE);
    (void)begin_ticket(pause); /* what devices still report is old */
    loop_cancel(pause->loop, &pause->drained);
    /* Also those that were not asked to rest yet: they may wait for this for a reason of theirs. */
    for (size_t i = 0; i < pause->ndevs; i++)
        pause->devs[i]->ops->resume(pause->devs[i]);
    if (pause->state != PAUSE_CLEARING)
        pause->start_clock(pause);
    pause->state = PAUSE_NONE;
    gate_release(pause->gate);
}
