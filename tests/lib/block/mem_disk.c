/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/mem_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "block/block.h"
#include "tests/lib/block/history.h"
#include "tests/lib/dice.h"

/* What is told apart when a disk is restored. */
#define MEM_UNIT 4096u
#define MEM_UNITS (MEM_DISK_MAX / MEM_UNIT)

/* From here on zeroing lets go of the memory: most of a long range was never touched. */
#define MEM_DROP_MIN (1u << 20)

void mem_die(const char *what)
{
    fprintf(stderr, "files in memory: %s\n", what);
    abort();
}

/* ---- disks ----------------------------------------------------------------------------------- */

/* Contents, followed by the versions. */
static size_t mapping_len(void)
{
    return MEM_DISK_MAX + MEM_UNITS * sizeof(uint64_t);
}

/*
 * Mappings of short disks that are gone, empty again: tests make and free thousands, and what costs
 * most is that the kernel has to find new pages.
 */
static uint8_t *spare[16];
static unsigned nspare;

/* What is zeroed to be used again; beyond that it is cheaper to let go of the pages. */
#define MEM_SPARE_MAX (8u << 20)

void mem_disk_init(struct mem_disk *disk, const char *name)
{
    *disk = (struct mem_disk){.name = name, .named = true, .align = 1};
    if (nspare > 0)
        disk->data = spare[--nspare];
    else
        disk->data = mmap(NULL, mapping_len(), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (disk->data == MAP_FAILED)
        mem_die("no memory");
    disk->versions = (uint64_t *)(void *)(disk->data + MEM_DISK_MAX);
}

void mem_disk_done(struct mem_disk *disk)
{
    if (disk->len > MEM_SPARE_MAX || nspare == ARRAY_SIZE(spare)) {
        munmap(disk->data, mapping_len());
        return;
    }
    memset(disk->data, 0, disk->len);
    memset(disk->versions, 0, div_round_up(disk->len, MEM_UNIT) * sizeof(*disk->versions));
    spare[nspare++] = disk->data;
}

void mem_disk_load(struct mem_disk *disk, const char *path)
{
    FILE *file = fopen(path, "rb");

    if (!file)
        mem_die(path);
    disk->len = fread(disk->data, 1, MEM_DISK_MAX, file);
    fclose(file);
}

void mem_disk_save(const struct mem_disk *disk, const char *path)
{
    FILE *file = fopen(path, "wb");

    if (!file || fwrite(disk->data, 1, disk->len, file) != disk->len || fclose(file) != 0)
        mem_die(path);
}

static void zero_range(uint8_t *data, uint64_t len)
{
    uint8_t *first = (uint8_t *)align_up((uintptr_t)data, MEM_UNIT);

    if (len >= MEM_DROP_MIN) {
        uint64_t head = (uint64_t)(first - data);
        uint64_t pages = align_down(len - head, MEM_UNIT);

        memset(data, 0, head);
        if (madvise(first, pages, MADV_DONTNEED) < 0)
            mem_die("madvise");
        data = first + pages;
        len -= head + pages;
    }
    memset(data, 0, len);
}

/* No two changes, on whatever disk, have the same version; 0 is for zeroes. */
static void set_versions(struct mem_disk *disk, uint64_t off, uint64_t len, bool zeroes)
{
    static uint64_t last_version;

    last_version++;
    for (uint64_t at = align_down(off, MEM_UNIT); at < off + len; at += MEM_UNIT) {
        bool whole = at >= off && at + MEM_UNIT <= off + len;

        disk->versions[at / MEM_UNIT] = zeroes && whole ? 0 : last_version;
    }
}

void mem_disk_copy(struct mem_disk *to, const struct mem_disk *from)
{
    memcpy(to->data, from->data, from->len);
    if (from->len < to->len)
        zero_range(to->data + from->len, to->len - from->len);
    set_versions(to, 0, max_u64(from->len, to->len), false);
    to->len = from->len;
    to->named = from->named;
    to->fixed_len = from->fixed_len;
}

/* Every other sector as an L2 table, the rest data; all places are in the first megabytes. */
void mem_disk_make_device(struct mem_disk *disk, uint64_t len, unsigned seed)
{
    uint64_t dice = seed;

    for (uint64_t at = 0; at < len; at += BLOCK_SECTOR_SIZE) {
        uint8_t *sector = disk->data + at;

        history_fill(sector, 1ull << 60 | at);
        for (unsigned i = 0; i < BLOCK_SECTOR_SIZE && at / BLOCK_SECTOR_SIZE % 2; i += 8)
            store_be64(sector + i, 1ull << 63 | (dice_next(&dice) & 0x1ffe00));
    }
    disk->len = len;
    disk->fixed_len = true;
    set_versions(disk, 0, len, false);
}

void mem_disk_restore(struct mem_disk *to, const struct mem_disk *from)
{
    uint64_t nunits = div_round_up(max_u64(from->len, to->len), MEM_UNIT);

    for (uint64_t i = 0; i < nunits; i++) {
        if (to->versions[i] == from->versions[i])
            continue;
        memcpy(to->data + i * MEM_UNIT, from->data + i * MEM_UNIT, MEM_UNIT);
        to->versions[i] = from->versions[i];
    }
    to->len = from->len;
    to->named = from->named;
}

static void zero(struct mem_disk *disk, uint64_t off, uint64_t len)
{
    if (off >= disk->len)
        return;
    len = min_u64(len, disk->len - off);
    zero_range(disk->data + off, len);
    set_versions(disk, off, len, true);
}

static void set_len(struct mem_disk *disk, uint64_t len)
{
    zero(disk, len, UINT64_MAX);
    disk->len = len;
}

void mem_disk_apply(struct mem_disk *disk, const struct mem_op *op)
{
    switch (op->op) {
    case FILE_WRITE:
        memcpy(disk->data + op->off, op->data, op->len);
        disk->len = max_u64(disk->len, op->off + op->len);
        set_versions(disk, op->off, op->len, false);
        break;
    case FILE_ZERO:
    case FILE_PUNCH:
        zero(disk, op->off, op->len);
        break;
    case MEM_TRUNCATE:
        set_len(disk, op->off);
        break;
    case MEM_LINK:
    case MEM_UNLINK:
        disk->named = op->op == MEM_LINK;
        break;
    default: /* changes nothing */
        break;
    }
}

/* ---- records --------------------------------------------------------------------------------- */

void mem_record_add(struct mem_record *record, const struct mem_op *op)
{
    if (record->n == record->max) {
        record->max = record->max ? record->max * 2 : 64;
        record->ops = realloc(record->ops, record->max * sizeof(*record->ops));
        if (!record->ops)
            mem_die("no memory");
    }
    record->ops[record->n++] = *op;
}

size_t mem_record_mark(struct mem_record *record)
{
    mem_record_add(record, &(struct mem_op){.op = MEM_MARK, .begin = record->n});
    return record->n;
}

void mem_record_done(struct mem_record *record)
{
    for (size_t i = 0; i < record->n; i++)
        free(record->ops[i].data);
    free(record->ops);
    *record = (struct mem_record){0};
}
