/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that never rests: random reads, writes, zeroes, discards and flushes on a disk, many at a
 * time, none where another one is. It knows what the disk has to show, and every read is compared.
 *
 * For operations on a disk that is in use. All functions on the loop's thread, but for those that
 * say otherwise.
 */
#ifndef MINIVMM_TESTS_DISK_LOAD_H
#define MINIVMM_TESTS_DISK_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/port.h"

#define DISK_LOAD_UNIT 4096u
#define DISK_LOAD_DEPTH 24u
#define DISK_LOAD_UNITS_MAX 16u /* of a request */

struct disk_load_slot {
    struct block_req req;
    struct iovec iov;
    struct disk_load *load;
    uint8_t data[DISK_LOAD_UNIT * DISK_LOAD_UNITS_MAX];
};

struct disk_load {
    struct block_port *port;
    uint64_t dice;
    uint64_t len;       /* of the disk, as the guest knows it: whole units */
    uint64_t max;       /* of `model` */
    uint8_t *model;     /* what the disk shows */
    bool *busy;         /* units with a request in flight */
    unsigned *versions; /* of units: goes up when a request begins to change one, and ends */
    bool stopping;
    bool reads_only;
    unsigned running;
    atomic_ulong ndone;
    atomic_bool stopped;
    struct disk_load_slot slots[DISK_LOAD_DEPTH];
};

/* The disk shows zeroes, or `initial`. It may grow up to `max`. Any thread. */
struct disk_load *disk_load_new(struct block_port *port, uint64_t len, uint64_t max,
                                const uint8_t *initial, uint64_t seed);
void disk_load_free(struct disk_load *load);

/* Take a loop's thread with loop_call(loop, disk_load_start, load). */
void disk_load_start(void *load);

/* Begin no more requests; `stopped` is set when none is in flight. */
void disk_load_stop(void *load);

/* Not on the loop's thread: wait until so many more requests are done, or stopped. */
void disk_load_wait(struct disk_load *load, unsigned long ndone);
void disk_load_end(struct disk_load *load);

#endif
