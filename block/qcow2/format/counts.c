/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/format/counts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define PAGE_BITS 10u
#define PAGE_CLUSTERS (1u << PAGE_BITS)

/*
 * The counts of PAGE_CLUSTERS clusters. Almost all counts are small, so a page has a byte for each;
 * as soon as one of them does not fit, it has 64 bits for each.
 */
struct qcow2_counts_page {
    uint64_t *wide; /* NULL: `narrow` is in use */
    uint8_t narrow[PAGE_CLUSTERS];
};

static const struct qcow2_counts_page empty_page;

void qcow2_counts_init(struct qcow2_counts *counts)
{
    *counts = (struct qcow2_counts){0};
}

void qcow2_counts_done(struct qcow2_counts *counts)
{
    for (uint64_t i = 0; i < counts->npages; i++) {
        if (counts->pages[i])
            free(counts->pages[i]->wide);
        free(counts->pages[i]);
    }
    free(counts->pages);
    qcow2_counts_init(counts);
}

static const struct qcow2_counts_page *page_of(const struct qcow2_counts *counts, uint64_t cluster)
{
    uint64_t i = cluster >> PAGE_BITS;

    return i < counts->npages && counts->pages[i] ? counts->pages[i] : &empty_page;
}

static uint64_t page_get(const struct qcow2_counts_page *page, uint64_t cluster)
{
    uint64_t i = cluster & (PAGE_CLUSTERS - 1);

    return page->wide ? page->wide[i] : page->narrow[i];
}

uint64_t qcow2_counts_get(const struct qcow2_counts *counts, uint64_t cluster)
{
    return page_get(page_of(counts, cluster), cluster);
}

static int take(struct qcow2_counts *counts, uint64_t bytes)
{
    if (bytes > QCOW2_COUNTS_BYTES_MAX - counts->bytes)
        return -EFBIG;
    counts->bytes += bytes;
    return 0;
}

static int grow_directory(struct qcow2_counts *counts, uint64_t want)
{
    uint64_t n = max_u64(max_u64(counts->npages * 2, 64), want);
    struct qcow2_counts_page **pages =
        realloc(counts->pages, n * sizeof(struct qcow2_counts_page *));

    if (!pages)
        return -ENOMEM;
    for (uint64_t i = counts->npages; i < n; i++)
        pages[i] = NULL;
    counts->pages = pages;
    counts->npages = n;
    return 0;
}

static int make_page(struct qcow2_counts *counts, uint64_t i)
{
    int r = take(counts, sizeof(struct qcow2_counts_page));

    if (r < 0)
        return r;
    counts->pages[i] = calloc(1, sizeof(struct qcow2_counts_page));
    return counts->pages[i] ? 0 : -ENOMEM;
}

static int widen(struct qcow2_counts *counts, struct qcow2_counts_page *page)
{
    int r = take(counts, PAGE_CLUSTERS * sizeof(*page->wide));

    if (r < 0)
        return r;
    page->wide = malloc(PAGE_CLUSTERS * sizeof(*page->wide));
    if (!page->wide)
        return -ENOMEM;
    for (unsigned i = 0; i < PAGE_CLUSTERS; i++)
        page->wide[i] = page->narrow[i];
    return 0;
}

int qcow2_counts_set(struct qcow2_counts *counts, uint64_t cluster, uint64_t value)
{
    uint64_t i = cluster >> PAGE_BITS;
    struct qcow2_counts_page *page;
    int r = 0;

    if (cluster >= QCOW2_COUNTS_CLUSTERS_MAX)
        return -EFBIG;
    if (value == 0 && qcow2_counts_get(counts, cluster) == 0)
        return 0;
    if (i >= counts->npages)
        r = grow_directory(counts, i + 1);
    if (r == 0 && !counts->pages[i])
        r = make_page(counts, i);
    if (r < 0)
        return r;
    page = counts->pages[i];
    if (value > UINT8_MAX && !page->wide)
        r = widen(counts, page);
    if (r < 0)
        return r;
    if (page->wide)
        page->wide[cluster & (PAGE_CLUSTERS - 1)] = value;
    else
        page->narrow[cluster & (PAGE_CLUSTERS - 1)] = (uint8_t)value;
    counts->end = max_u64(counts->end, cluster + 1);
    return 0;
}

uint64_t qcow2_counts_next(const struct qcow2_counts *counts, uint64_t from, uint64_t end)
{
    uint64_t stop = min_u64(end, counts->end);

    while (from < stop) {
        const struct qcow2_counts_page *page = page_of(counts, from);

        if (page == &empty_page)
            from = align_down(from, PAGE_CLUSTERS) + PAGE_CLUSTERS;
        else if (page_get(page, from) != 0)
            return from;
        else
            from++;
    }
    return end;
}

uint64_t qcow2_counts_used_end(const struct qcow2_counts *counts, uint64_t end)
{
    end = min_u64(end, counts->end);
    while (end > 0) {
        const struct qcow2_counts_page *page = page_of(counts, end - 1);

        if (page == &empty_page)
            end = align_down(end - 1, PAGE_CLUSTERS);
        else if (page_get(page, end - 1) != 0)
            return end;
        else
            end--;
    }
    return 0;
}

static bool pages_equal(const struct qcow2_counts_page *a, const struct qcow2_counts_page *b)
{
    if (a == b)
        return true;
    return !a->wide && !b->wide && memcmp(a->narrow, b->narrow, sizeof(a->narrow)) == 0;
}

uint64_t qcow2_counts_differ(const struct qcow2_counts *a, const struct qcow2_counts *b,
                             uint64_t from, uint64_t end)
{
    uint64_t stop = min_u64(end, max_u64(a->end, b->end));

    while (from < stop) {
        const struct qcow2_counts_page *in_a = page_of(a, from);
        const struct qcow2_counts_page *in_b = page_of(b, from);

        if (is_aligned(from, PAGE_CLUSTERS) && pages_equal(in_a, in_b))
            from += PAGE_CLUSTERS;
        else if (page_get(in_a, from) != page_get(in_b, from))
            return from;
        else
            from++;
    }
    return end;
}
