/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtqueue whose rings, descriptors and tables are the input.
 *
 * Layout: size as a power of two, features, three bytes that place the rings in units of 256, and
 * from byte 8 on the contents of guest memory.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/virtq.h"
#include "tests/lib/devices/virtio/virtio_driver.h"

#define MEM_LEN (64 * KIB)
#define HEADER_LEN 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest_mem *mem;
static struct virtq_chain chain;

static void check_chain(const uint8_t *ram)
{
    uint64_t len = 0;

    assert(chain.nout + chain.nin <= VIRTQ_CHAIN_MAX);
    for (unsigned i = 0; i < chain.nout + chain.nin; i++) {
        const uint8_t *base = chain.iov[i].iov_base;

        assert(base >= ram && range_fits((uint64_t)(base - ram), chain.iov[i].iov_len, MEM_LEN));
        assert(chain.iov[i].iov_len > 0);
        len += chain.iov[i].iov_len;
    }
    assert(len == (uint64_t)chain.out_len + chain.in_len);
}

/* As a device does it; half of the chains come back at once, the others at the end. */
static void serve(struct virtq *vq, const uint8_t *ram)
{
    uint16_t heads[VIRTQ_SIZE_MAX];
    unsigned nheads = 0;
    bool interrupt;
    int r;

    do {
        virtq_disable_kicks(vq);
        while ((r = virtq_pop(vq, &chain)) > 0) {
            check_chain(ram);
            assert(vq->in_flight <= vq->size);
            if (chain.head % 2)
                heads[nheads++] = chain.head;
            else
                virtq_push(vq, chain.head, chain.in_len);
        }
    } while (r == 0 && virtq_enable_kicks(vq));
    while (nheads > 0)
        virtq_push(vq, heads[--nheads], 0);
    assert(vq->in_flight == 0);
    interrupt = virtq_publish(vq);
    (void)interrupt; /* the driver's wish is as random as the rest */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtq vq;
    uint8_t *ram;

    if (size < HEADER_LEN)
        return 0;
    if (!mem) {
        log_set_level(LOG_ERROR);
        mem = driver_mem_new(MEM_LEN);
    }
    ram = driver_at(mem, 0, MEM_LEN);
    memset(ram, 0, MEM_LEN);
    memcpy(ram, data + HEADER_LEN, min_u64(size - HEADER_LEN, MEM_LEN));

    virtq_reset(&vq);
    vq.size = (uint16_t)(1u << (data[0] % 12));
    vq.desc_gpa = data[2] * 256ull;
    vq.avail_gpa = data[3] * 256ull;
    vq.used_gpa = data[4] * 256ull;
    if (virtq_enable(&vq, mem) < 0)
        return 0;
    virtq_start(&vq, (uint64_t)data[1] << VIRTIO_RING_F_INDIRECT_DESC);
    /* Writing the used ring may have changed what lies under it: that is for a second round. */
    serve(&vq, ram);
    serve(&vq, ram);
    return 0;
}
