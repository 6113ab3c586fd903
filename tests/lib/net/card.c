/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/net/card.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "tests/lib/unit.h"

/* Longer than anything takes that is waited for, also on a machine that is busy. */
#define PATIENCE_NS (20 * NS_PER_S)

static struct card *card_of(struct net_user *user)
{
    return container_of(user, struct card, user);
}

static void stop(struct card *card)
{
    loop_stop(card->loop);
}

ssize_t card_receive(struct card *card)
{
    /* In pieces, as a guest's buffers are. */
    const struct iovec iov[] = {{&card->header, NET_HDR_LEN},
                                {card->buffer, 10},
                                {card->buffer + 10, 1000},
                                {card->buffer + 1010, card->room - 1010}};
    ssize_t r;

    memset(&card->header, 0xee, sizeof(card->header));
    r = card->net->ops->receive(card->net, iov, ARRAY_SIZE(iov));
    if (r == -EMSGSIZE)
        card->ndropped++;
    if (r <= 0)
        return r;
    card->nreceived++;
    card->last_len = (uint32_t)r;
    card->last_flags = card->header.flags;
    memcpy(card->last, card->buffer, (size_t)r);
    card->nbad += !card_is_filled(card->buffer, (uint32_t)r);
    memset(card->buffer, 0, (size_t)r);
    if (card->look)
        card->look(card);
    return r;
}

static void readable(struct net_user *user)
{
    struct card *card = card_of(user);

    card->nreadable++;
    stop(card);
    for (unsigned n = 0; card->budget == 0 || n < card->budget; n++) {
        if (card_receive(card) == 0)
            break;
    }
    if (card->stops)
        card->net->ops->watch(card->net, false);
}

static void writable(struct net_user *user)
{
    card_of(user)->nwritable++;
    stop(card_of(user));
}

static void link_changed(struct net_user *user)
{
    card_of(user)->nlink_changes++;
    stop(card_of(user));
}

void card_init(struct card *card)
{
    memset(card, 0, sizeof(*card));
    card->user =
        (struct net_user){.readable = readable, .writable = writable, .link_changed = link_changed};
    card->room = NET_FRAME_MAX;
    ck_assert_int_eq(loop_new(&card->loop), 0);
}

void card_attach(struct card *card, struct net *net)
{
    card->net = net;
    ck_assert_int_eq(net->ops->attach(net, card->loop, &card->user), 0);
    net->ops->watch(net, true);
}

void card_detach(struct card *card)
{
    card->net->ops->detach(card->net);
    card->net = NULL;
}

void card_done(struct card *card)
{
    if (card->net)
        card_detach(card);
    loop_free(card->loop);
}

static struct card *timed;

static void time_is_up(struct loop_timer *timer)
{
    loop_stop(timed->loop);
}

/* Run the loop until something happens, or until then. */
static void run_until(struct card *card, uint64_t deadline_ns)
{
    struct loop_timer timer = {.expired = time_is_up};
    uint64_t now = monotonic_ns();

    timed = card;
    loop_arm(card->loop, &timer, deadline_ns > now ? deadline_ns - now : 0);
    ck_assert_int_eq(loop_run(card->loop), 0);
    loop_disarm(&timer);
}

void card_wait(struct card *card, const unsigned *count, unsigned n)
{
    uint64_t deadline_ns = monotonic_ns() + PATIENCE_NS;

    while (*count < n) {
        ck_assert_msg(monotonic_ns() < deadline_ns, "%u of %u came", *count, n);
        run_until(card, deadline_ns);
    }
}

void card_turn(struct card *card, unsigned ms)
{
    uint64_t deadline_ns = monotonic_ns() + ms * NS_PER_MS;

    do
        run_until(card, deadline_ns);
    while (monotonic_ns() < deadline_ns);
}

void card_check_watch(struct card *card, void (*give)(void))
{
    card->net->ops->watch(card->net, false);
    give();
    card_turn(card, 30);
    ck_assert_uint_eq(card->nreadable, 0);
    card->net->ops->watch(card->net, true);
    card_wait(card, &card->nreceived, 1);
}

void card_wait_link(struct card *card, bool up)
{
    while (card->net->link_up != up)
        card_wait(card, &card->nlink_changes, card->nlink_changes + 1);
}

void card_fill(uint8_t *frame, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        frame[i] = (uint8_t)(i * 7 + i / 251 + len);
}

bool card_is_filled(const uint8_t *frame, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        if (frame[i] != (uint8_t)(i * 7 + i / 251 + len))
            return false;
    }
    return true;
}

unsigned card_send(struct card *card, const uint32_t *lens, unsigned n, unsigned *ret_dropped)
{
    struct net_frame frames[NET_SEND_MAX];
    struct iovec iov[NET_SEND_MAX][3];
    static struct virtio_net_hdr_v1 header;
    unsigned taken;

    ck_assert_uint_le(n, NET_SEND_MAX);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *frame = malloc(lens[i] + 1);

        card_fill(frame, lens[i]);
        iov[i][0] = (struct iovec){&header, NET_HDR_LEN};
        iov[i][1] = (struct iovec){frame, lens[i] / 3};
        iov[i][2] = (struct iovec){frame + lens[i] / 3, lens[i] - lens[i] / 3};
        frames[i] = (struct net_frame){.iov = iov[i], .niov = 3, .len = lens[i]};
    }
    taken = card->net->ops->send(card->net, frames, n);
    *ret_dropped = 0;
    for (unsigned i = 0; i < n; i++) {
        *ret_dropped += i < taken && frames[i].dropped;
        /* Nothing may look at what was taken. */
        memset(iov[i][1].iov_base, 0, lens[i]);
        free(iov[i][1].iov_base);
    }
    return taken;
}
