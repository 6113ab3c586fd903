/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/guest_mem_populate.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/thread.h"

#define PIECE (64 * MIB)

/* Enough to keep the memory busy: hosts with more CPUs have other uses for them. */
#define THREADS_MAX 16

struct populating {
    const struct guest_mem *mem;
    atomic_uint_fast64_t next; /* piece */
    atomic_int result;
};

/* The next piece that nobody took; false after the last, or when one failed. */
static bool take(struct populating *populating, uint8_t **ret_host, size_t *ret_len)
{
    uint64_t piece = atomic_fetch_add(&populating->next, 1);

    for (size_t i = 0; i < populating->mem->nregions && populating->result == 0; i++) {
        const struct mem_region *region = &populating->mem->regions[i];
        uint64_t pieces = div_round_up(region->len, PIECE);

        if (piece < pieces) {
            *ret_host = region->host + piece * PIECE;
            *ret_len = min_u64(PIECE, region->len - piece * PIECE);
            return true;
        }
        piece -= pieces;
    }
    return false;
}

static void *populate(void *opaque)
{
    struct populating *populating = opaque;
    uint8_t *host;
    size_t len;

    while (take(populating, &host, &len)) {
        if (madvise(host, len, MADV_POPULATE_WRITE) < 0)
            populating->result = -errno;
    }
    return NULL;
}

static int populate_error(int r, struct err *err)
{
    if (r == -EINVAL)
        return err_set(err, r, "guest memory: providing it beforehand needs Linux 5.14 or later");
    return err_set_errno(err, r, "guest memory: the host cannot provide all of it");
}

int guest_mem_populate(const struct guest_mem *mem, struct err *err)
{
    struct populating populating = {.mem = mem};
    pthread_t threads[THREADS_MAX - 1];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t wanted = min_u64(cpus > 0 ? (uint64_t)cpus : 1, THREADS_MAX);
    size_t n = 0;

    wanted = min_u64(wanted, div_round_up(guest_mem_size(mem), PIECE));
    /* Whoever starts takes part; without another thread this one does all of it. */
    while (n + 1 < wanted && thread_start(&threads[n], "populate", populate, &populating) == 0)
        n++;
    (void)populate(&populating);
    for (size_t i = 0; i < n; i++)
        (void)pthread_join(threads[i], NULL); /* ours and joinable, so it cannot fail */
    return populating.result == 0 ? 0 : populate_error(populating.result, err);
}
