/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/table.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"

/* Longer tables are read by pieces of this length. */
#define LOAD_PIECE (64u << 10)

/* The kernel gives memory by pages of this length; a page that was never written costs none. */
#define LOAD_PAGE 4096u

static uint32_t dirty_words(const struct qcow2_table *table)
{
    return (uint32_t)div_round_up(table->n, 64ull * QCOW2_TABLE_PIECE);
}

/*
 * Store the entries in `data`, of which the first has number `i`. Each page of entries that are not
 * all zero is subtracted from *left.
 */
static int take_entries(struct qcow2_table *table, uint32_t i, const uint8_t *data, size_t len,
                        uint64_t *left)
{
    for (size_t page = 0; page < len; page += LOAD_PAGE) {
        size_t end = (size_t)min_u64(page + LOAD_PAGE, len);
        bool charged = false;

        for (size_t at = page; at < end; at += sizeof(uint64_t)) {
            uint64_t entry = load_be64(data + at);

            if (entry == 0)
                continue;
            if (left && !charged && *left < end - page)
                return -EDQUOT;
            if (left && !charged)
                *left -= end - page;
            charged = true;
            table->entries[i + at / sizeof(uint64_t)] = entry;
        }
    }
    return 0;
}

static int read_piece(struct qcow2 *q, struct qcow2_table *table, uint64_t at, size_t len,
                      uint8_t *buf, uint64_t *left)
{
    int r = qcow2_meta_read(q, table->host + at, buf, len);

    return r < 0 ? r : take_entries(table, (uint32_t)(at / sizeof(uint64_t)), buf, len, left);
}

/* `at` if the table has data there; else the page in which the hole ends, or `len`. */
static uint64_t skip_hole(struct qcow2 *q, const struct qcow2_table *table, uint64_t at,
                          uint64_t len)
{
    uint64_t end;

    if (at >= len || !file_hole_at(q->block.file, table->host + at, &end))
        return at;
    end = min_u64(end - table->host, len);
    return end == len ? len : align_down(end, LOAD_PAGE);
}

/*
 * An image can claim to have 32 MiB of a table that it does not use, in a file that is a hole. So
 * holes are not read and zeroes are not stored: the table takes memory only for other entries.
 */
static int read_sparse(struct qcow2 *q, struct qcow2_table *table, uint64_t len, uint64_t *left)
{
    /* The buffer is mapped: freed heap would stay with the process for ever. */
    uint8_t *buf =
        mmap(NULL, LOAD_PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t at = 0;
    int r = 0;

    if (buf == MAP_FAILED)
        return -ENOMEM;
    while (r == 0 && (at = skip_hole(q, table, at, len)) < len) {
        size_t piece = (size_t)min_u64(LOAD_PIECE, len - at);

        r = read_piece(q, table, at, piece, buf, left);
        at += piece;
    }
    (void)munmap(buf, LOAD_PIECE); /* cannot fail for a mapping of our own */
    return r;
}

static bool has_entries(const uint64_t *page)
{
    for (size_t i = 0; i < LOAD_PAGE / sizeof(*page); i++)
        if (page[i] != 0)
            return true;
    return false;
}

/*
 * The refcount table of a small image has a cluster with few entries. A page without any goes back
 * to the host, and is zero again when it is needed.
 */
static void give_back_zeroes(uint64_t *entries, size_t len)
{
    uintptr_t end = align_down((uintptr_t)entries + len, LOAD_PAGE);

    for (uintptr_t page = align_up((uintptr_t)entries, LOAD_PAGE); page < end; page += LOAD_PAGE)
        if (!has_entries((const uint64_t *)page))
            (void)madvise((void *)page, LOAD_PAGE, MADV_DONTNEED); /* else it stays as it is */
}

int qcow2_table_load(struct qcow2 *q, struct qcow2_table *table, uint64_t *left)
{
    size_t len = table->n * sizeof(uint64_t);
    uint64_t *entries = calloc(1, len + 1);
    uint64_t *dirty = calloc(dirty_words(table) + 1, sizeof(uint64_t));
    struct qcow2_table loaded = *table;
    int r = -ENOMEM;

    if (!entries || !dirty)
        goto free_both;
    loaded.entries = entries;
    if (len <= LOAD_PIECE) { /* the entries are converted in place */
        r = read_piece(q, &loaded, 0, len, (uint8_t *)entries, left);
        give_back_zeroes(entries, len);
    } else {
        r = read_sparse(q, &loaded, len, left);
    }
    if (r < 0)
        goto free_both;
    table->entries = entries;
    table->dirty = dirty;
    return 0;

free_both:
    free(entries);
    free(dirty);
    return r;
}

void qcow2_table_set(struct qcow2_table *table, uint32_t i, uint64_t entry)
{
    uint32_t piece = i / QCOW2_TABLE_PIECE;

    table->entries[i] = entry;
    table->dirty[piece / 64] |= 1ull << (piece % 64);
    table->any_dirty = true;
}

void qcow2_table_done(struct qcow2_table *table)
{
    free(table->entries);
    free(table->dirty);
    table->entries = NULL;
    table->dirty = NULL;
}

int qcow2_l1_read(struct qcow2 *q, uint64_t host, uint32_t n, uint64_t **ret_entries)
{
    uint64_t end = q->cut_short ? QCOW2_HOST_MAX : q->file_end;
    uint64_t len = (uint64_t)n * sizeof(uint64_t);
    uint64_t *entries;
    int r;

    if (len > QCOW2_L1_BYTES_MAX || !is_aligned(host, q->cluster_size) ||
        (n > 0 && (host == 0 || !range_fits(host, len, end))))
        return -EIO;
    entries = malloc(len + 1);
    if (!entries)
        return -ENOMEM;
    r = qcow2_meta_read(q, host, entries, len);
    if (r < 0) {
        free(entries);
        return r;
    }
    for (uint32_t i = 0; i < n; i++)
        entries[i] = be64toh(entries[i]);
    *ret_entries = entries;
    return 0;
}

int qcow2_table_zero(struct qcow2 *q, uint64_t host, bool fresh)
{
    uint64_t last = qcow2_slice_size(q);
    int r = fresh ? 0 : qcow2_meta_zero(q, host, q->cluster_size);

    return r < 0 ? r : qcow2_meta_write(q, host + q->cluster_size - last, file_zeroes, last);
}
