/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"

/*
 * The bound of the cache is twice what the disk's L2 tables need, between these two. 32 MiB of L2
 * entries map 256 GiB with 64 KiB clusters. Memory is allocated slice by slice.
 */
#define CACHE_BYTES_MIN (1u << 20)
#define CACHE_BYTES_MAX (32u << 20)

/* The bound for all images on top of each other; each has CACHE_BYTES_MIN all the same. */
#define CACHE_BYTES_CHAIN (64u << 20)

#define BUCKETS_FIRST 64u

/* What an idle disk keeps: 32 KiB. */
#define IDLE_SLICES 8u

static unsigned bucket_of(const struct qcow2 *q, uint64_t host)
{
    uint64_t hash = (host >> q->slice_bits) * 0x9e3779b97f4a7c15ull; /* 2^64 / golden ratio */

    return (unsigned)(hash >> 32) & (q->cache.nbuckets - 1);
}

int qcow2_cache_init(struct qcow2 *q)
{
    struct qcow2_cache *cache = &q->cache;
    uint64_t l2_bytes = (q->block.len >> q->cluster_bits) << q->l2_entry_bits;
    uint64_t bytes = min_u64(max_u64(l2_bytes * 2, CACHE_BYTES_MIN), CACHE_BYTES_MAX);

    cache->limit = (unsigned)(bytes >> q->slice_bits);
    cache->nbuckets = BUCKETS_FIRST;
    list_init(&cache->lru);
    for (int i = 0; i < QCOW2_METAS; i++)
        list_init(&cache->dirty[i]);
    cache->buckets = calloc(cache->nbuckets, sizeof(struct qcow2_slice *));
    return cache->buckets ? 0 : -ENOMEM;
}

void qcow2_cache_share(struct qcow2 *q)
{
    uint64_t bytes = max_u64(CACHE_BYTES_CHAIN / q->layers, CACHE_BYTES_MIN);

    q->cache.limit = (unsigned)min_u64(q->cache.limit, bytes >> q->slice_bits);
}

static void hash_insert(struct qcow2 *q, struct qcow2_slice *slice)
{
    struct qcow2_slice **bucket = &q->cache.buckets[bucket_of(q, slice->host)];

    slice->hash_next = *bucket;
    *bucket = slice;
}

static void hash_remove(struct qcow2 *q, struct qcow2_slice *slice)
{
    struct qcow2_slice **at = &q->cache.buckets[bucket_of(q, slice->host)];

    while (*at != slice)
        at = &(*at)->hash_next;
    *at = slice->hash_next;
}

/* Double the buckets, to keep chains short. Without memory for that the chains just get longer. */
static void grow_buckets(struct qcow2 *q)
{
    struct qcow2_cache *cache = &q->cache;
    struct qcow2_slice **buckets = calloc(cache->nbuckets * 2ull, sizeof(struct qcow2_slice *));

    if (!buckets)
        return;
    free(cache->buckets);
    cache->buckets = buckets;
    cache->nbuckets *= 2;
    list_for_each (item, &cache->lru)
        hash_insert(q, container_of(item, struct qcow2_slice, lru));
}

static struct qcow2_slice *find(struct qcow2 *q, uint64_t host)
{
    struct qcow2_slice *slice = q->cache.buckets[bucket_of(q, host)];

    while (slice && slice->host != host)
        slice = slice->hash_next;
    return slice;
}

static void forget(struct qcow2 *q, struct qcow2_slice *slice)
{
    hash_remove(q, slice);
    list_remove(&slice->lru);
    q->cache.nslices--;
}

/* Drop the least recently used slices until `keep` are left; pinned and dirty ones stay. */
static void evict(struct qcow2 *q, unsigned keep)
{
    struct qcow2_cache *cache = &q->cache;

    list_for_each_safe (item, &cache->lru) {
        struct qcow2_slice *slice = container_of(item, struct qcow2_slice, lru);

        if (cache->nslices <= keep)
            return;
        if (slice->pins == 0 && !slice->dirty) {
            forget(q, slice);
            free(slice);
        }
    }
}

void qcow2_cache_trim(struct qcow2 *q)
{
    evict(q, IDLE_SLICES);
}

static struct qcow2_slice *insert(struct qcow2 *q, enum qcow2_meta kind, uint64_t host)
{
    struct qcow2_cache *cache = &q->cache;
    struct qcow2_slice *slice;

    if (cache->nslices >= cache->limit)
        evict(q, cache->limit - 1);
    if (cache->nslices >= cache->nbuckets)
        grow_buckets(q);
    slice = calloc(1, sizeof(*slice) + qcow2_slice_size(q));
    if (!slice)
        return NULL;
    slice->host = host;
    slice->kind = kind;
    slice->loading = true;
    co_queue_init(&slice->loaded);
    list_init(&slice->mark);
    hash_insert(q, slice);
    list_add_tail(&cache->lru, &slice->lru);
    cache->nslices++;
    return slice;
}

static void unpin(struct qcow2_slice *slice)
{
    assert(slice->pins > 0);
    slice->pins--;
    if (slice->pins == 0 && slice->stale)
        free(slice);
}

static int load(struct qcow2 *q, struct qcow2_slice *slice)
{
    int r = qcow2_meta_read(q, slice->host, slice->data, qcow2_slice_size(q));

    slice->loading = false;
    if (r < 0) {
        forget(q, slice);
        slice->stale = true;
    }
    co_queue_wake_all(&slice->loaded);
    return r;
}

int qcow2_slice_get(struct qcow2 *q, enum qcow2_meta kind, uint64_t host,
                    struct qcow2_slice **ret_slice)
{
    struct qcow2_slice *slice = find(q, host);
    int r = 0;

    if (!slice) {
        if (!q->cut_short && !range_fits(host, qcow2_slice_size(q), q->file_end)) {
            log_guest(LOG_WARN, "%s: a table at %#llx lies outside the file", q->path,
                      (unsigned long long)host);
            return -EIO;
        }
        slice = insert(q, kind, host);
        if (!slice)
            return -ENOMEM;
        slice->pins++;
        r = load(q, slice);
    } else {
        slice->pins++;
        if (slice->loading)
            co_queue_wait(&slice->loaded);
        if (slice->stale || slice->kind != kind)
            r = -EIO;
    }
    if (r < 0) {
        unpin(slice);
        return r;
    }
    list_remove(&slice->lru);
    list_add_tail(&q->cache.lru, &slice->lru);
    *ret_slice = slice;
    return 0;
}

void qcow2_slice_put(struct qcow2 *q, struct qcow2_slice *slice)
{
    unpin(slice);
}

const struct qcow2_slice *qcow2_slice_peek(struct qcow2 *q, uint64_t host)
{
    struct qcow2_slice *slice = find(q, host);

    return slice && !slice->loading ? slice : NULL;
}

void qcow2_slice_dirty(struct qcow2 *q, struct qcow2_slice *slice)
{
    if (slice->dirty)
        return;
    slice->dirty = true;
    list_add_tail(&q->cache.dirty[slice->kind], &slice->mark);
    q->cache.ndirty[slice->kind]++;
}

static int compare_host(const void *a, const void *b)
{
    const struct qcow2_slice *const *x = a;
    const struct qcow2_slice *const *y = b;

    return (*x)->host < (*y)->host ? -1 : (*x)->host > (*y)->host;
}

int qcow2_cache_take_dirty(struct qcow2 *q, enum qcow2_meta kind, struct qcow2_slice ***ret_slices,
                           unsigned *ret_n)
{
    struct qcow2_cache *cache = &q->cache;
    struct qcow2_slice **slices = malloc((cache->ndirty[kind] + 1) * sizeof(struct qcow2_slice *));
    unsigned n = 0;

    if (!slices)
        return -ENOMEM;
    list_for_each_safe (item, &cache->dirty[kind]) {
        struct qcow2_slice *slice = container_of(item, struct qcow2_slice, mark);

        list_remove(item);
        slice->dirty = false;
        slice->pins++;
        slices[n++] = slice;
    }
    cache->ndirty[kind] = 0;
    qsort(slices, n, sizeof(struct qcow2_slice *), compare_host);
    *ret_slices = slices;
    *ret_n = n;
    return 0;
}

void qcow2_cache_done(struct qcow2 *q)
{
    if (!q->cache.buckets)
        return;
    list_for_each_safe (item, &q->cache.lru) {
        struct qcow2_slice *slice = container_of(item, struct qcow2_slice, lru);

        forget(q, slice);
        free(slice);
    }
    free(q->cache.buckets);
}
