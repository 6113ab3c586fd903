/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses to memory in which a driver runs at the same time; private to virtq.c.
 *
 * Each is carried out once, with the order that its caller names (__ATOMIC_…), on words in
 * little-endian. Everything in virtq.c goes through here: test_virtq_order puts its own functions
 * in their place, writes down what is done and how it is ordered, and tries every way in which a
 * machine might carry it out.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTQ_ACCESS_H
#define MINIVMM_DEVICES_VIRTIO_VIRTQ_ACCESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "memory/guest_mem.h"

static inline uint16_t ring_load16(const uint16_t *from, int order)
{
    return le16toh(__atomic_load_n(from, order));
}

static inline void ring_store16(uint16_t *to, uint16_t value, int order)
{
    __atomic_store_n(to, htole16(value), order);
}

static inline void ring_store32(uint32_t *to, uint32_t value, int order)
{
    __atomic_store_n(to, htole32(value), order);
}

/* Copy more than a word, not ordered against anything else, and perhaps not in one piece. */
static inline void ring_fetch(void *buf, const void *from, size_t len)
{
    guest_mem_fetch(buf, from, len);
}

#endif
