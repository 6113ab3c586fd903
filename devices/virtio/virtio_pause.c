/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_pause.h"

/* Only the newest wish counts. */
static void apply(struct loop_work *work)
{
    struct virtio_pause *pause = container_of(work, struct virtio_pause, apply);
    struct virtio_pauser *pauser;
    uint64_t ticket;

    pthread_mutex_lock(&pause->lock);
    pauser = pause->wanted_by;
    ticket = pause->wanted_ticket;
    pthread_mutex_unlock(&pause->lock);
    pause->on = pauser != NULL;
    pause->changed(pause, pause->on);
    if (pauser)
        pauser->paused(pauser, ticket);
}

void virtio_pause_init(struct virtio_pause *pause)
{
    pthread_mutex_init(&pause->lock, NULL);
    pause->wanted_by = NULL;
    pause->on = false;
    pause->apply.run = apply;
}

void virtio_pause_done(struct virtio_pause *pause)
{
    loop_cancel(pause->loop, &pause->apply);
    pthread_mutex_destroy(&pause->lock);
}

void virtio_pause_ask(struct virtio_pause *pause, struct virtio_pauser *pauser, uint64_t ticket)
{
    pthread_mutex_lock(&pause->lock);
    pause->wanted_by = pauser;
    pause->wanted_ticket = ticket;
    pthread_mutex_unlock(&pause->lock);
    loop_post(pause->loop, &pause->apply);
}
