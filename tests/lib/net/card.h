/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network card without a guest, for tests of back ends: it counts events, and sends and receives
 * frames that can be told apart.
 */
#ifndef MINIVMM_TESTS_NET_CARD_H
#define MINIVMM_TESTS_NET_CARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "net/net.h"

struct card {
    struct net_user user;
    struct net *net;
    struct loop *loop;
    unsigned budget;                 /* it takes so many frames when it is told of some; 0: all */
    bool stops;                      /* and does not watch any more then */
    void (*look)(struct card *card); /* at the last frame; NULL: it is not looked at */
    unsigned nreadable;
    unsigned nwritable;
    unsigned nlink_changes;
    unsigned nreceived;
    unsigned ndropped; /* -EMSGSIZE */
    unsigned nbad;     /* frames that are not as card_fill makes them */
    uint32_t last_len;
    uint8_t last_flags; /* of its header */
    uint8_t last[NET_FRAME_MAX];
    uint32_t room; /* for a frame */
    uint8_t buffer[NET_FRAME_MAX];
    struct virtio_net_hdr_v1 header;
};

/* A card with a loop of its own; attach it to a back end, and watch that. */
void card_init(struct card *card);
void card_attach(struct card *card, struct net *net);
void card_detach(struct card *card);
void card_done(struct card *card);

/* Run the loop until `count` is at least `n`; the test fails after a long time. */
void card_wait(struct card *card, const unsigned *count, unsigned n);
/* Run it for a moment, in which nothing need happen. */
void card_turn(struct card *card, unsigned ms);
/* Run it until the link is up or down. */
void card_wait_link(struct card *card, bool up);

/* A frame of bytes that follow from its length; its check. */
void card_fill(uint8_t *frame, uint32_t len);
bool card_is_filled(const uint8_t *frame, uint32_t len);

/* Send frames of these lengths at once; how many were taken, and how many of those dropped. */
unsigned card_send(struct card *card, const uint32_t *lens, unsigned n, unsigned *ret_dropped);

/* Of a frame that `give` has the other side send, it is told only if it watches. */
void card_check_watch(struct card *card, void (*give)(void));

/* Receive once, as readable does. */
ssize_t card_receive(struct card *card);

#endif
