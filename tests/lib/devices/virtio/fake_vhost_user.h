/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process at the other end of vhost-user, for tests: a thread that maps guest memory, copies what
 * is readable of each chain to what is writable, and misbehaves on demand.
 */
#ifndef MINIVMM_TESTS_FAKE_VHOST_USER_H
#define MINIVMM_TESTS_FAKE_VHOST_USER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_VHOST_QUEUES 2u
#define FAKE_VHOST_REGIONS 8u

/* What it does when a message of the kind `at` comes, instead of what it should. */
enum fake_vhost_fault {
    FAKE_VHOST_OBEYS,
    FAKE_VHOST_CLOSES,
    FAKE_VHOST_HANGS,         /* no answer, and nothing else either */
    FAKE_VHOST_REFUSES,       /* an acknowledgement that says so */
    FAKE_VHOST_WRONG_REQUEST, /* an answer to another message */
    FAKE_VHOST_WRONG_LEN,
    FAKE_VHOST_WRONG_FLAGS,
    FAKE_VHOST_HALF,     /* half of an answer */
    FAKE_VHOST_GARBAGE,  /* a payload of ones */
    FAKE_VHOST_MANY_FDS, /* the right answer, with descriptors */
};

struct fake_vhost_queue {
    uint32_t size;
    uint16_t next_avail;
    uint64_t desc, avail, used; /* addresses of the front end */
    int kick;                   /* -1: none */
    int call;
    bool enabled;
};

struct fake_vhost_user {
    /* Set before it starts. */
    uint64_t features;
    uint64_t protocol_features;
    enum fake_vhost_fault fault;
    uint32_t at;
    atomic_bool deaf; /* it looks at no kick */

    int sock; /* of the test: handed to what is tested */
    int own;
    int quit[2];
    pthread_t thread;
    atomic_uint nchains;
    atomic_uint nmessages;
    atomic_uint last; /* message */
    uint64_t acked;   /* features; look at it after a message that was answered */

    struct {
        uint64_t gpa, len, host;
        uint8_t *map;
    } regions[FAKE_VHOST_REGIONS];
    uint32_t nregions;
    struct fake_vhost_queue queues[FAKE_VHOST_QUEUES];
};

/* A good one, not started. */
void fake_vhost_user_init(struct fake_vhost_user *fake);
void fake_vhost_user_start(struct fake_vhost_user *fake);

/* Close its end, if it is open, and wait for it. */
void fake_vhost_user_end(struct fake_vhost_user *fake);

#endif
