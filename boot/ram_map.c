/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/ram_map.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"

void ram_map_init(struct ram_map *map, const struct guest_mem *mem)
{
    map->mem = mem;
    map->nuses = 0;
}

static const struct ram_use *find_overlap(const struct ram_map *map, uint64_t gpa, uint64_t len)
{
    for (size_t i = 0; i < map->nuses; i++)
        if (ranges_overlap(gpa, len, map->uses[i].gpa, map->uses[i].len))
            return &map->uses[i];
    return NULL;
}

static void add_use(struct ram_map *map, uint64_t gpa, uint64_t len, const char *what)
{
    /* The number of low tables and the limit for kernel segments are ours. */
    assert(map->nuses < RAM_MAP_USES_MAX);
    map->uses[map->nuses++] = (struct ram_use){.gpa = gpa, .len = len, .what = what};
}

#define ADVICE_MAX 64

/* What helps if the guest's RAM has to reach up to `end`; "" if no amount of it does. */
static void advise_memory(const struct ram_map *map, uint64_t end, uint64_t limit,
                          char advice[ADVICE_MAX])
{
    advice[0] = '\0';
    if (end > guest_mem_size(map->mem) && end <= limit)
        snprintf(advice, ADVICE_MAX, ": it needs --memory %lluM or more",
                 (unsigned long long)div_round_up(end, MIB));
}

int ram_map_take(struct ram_map *map, uint64_t gpa, uint64_t len, const char *what,
                 uint8_t **ret_host, struct err *err)
{
    const struct ram_use *use;
    char advice[ADVICE_MAX];
    uint64_t end;
    void *host;

    if (guest_mem_at(map->mem, gpa, len, &host) < 0) {
        advise_memory(map, add_u64(gpa, len, &end) ? end : UINT64_MAX, X86_LOW_RAM_END, advice);
        return err_set(err, -ENOSPC,
                       "%s needs %llu KiB at %#llx, which is outside the guest's %llu MiB of RAM%s",
                       what, (unsigned long long)div_round_up(len, KIB), (unsigned long long)gpa,
                       (unsigned long long)(guest_mem_size(map->mem) / MIB), advice);
    }
    use = find_overlap(map, gpa, len);
    if (use)
        return err_set(err, -EINVAL, "%s at %#llx, %llu bytes, overlaps %s at %#llx, %llu bytes",
                       what, (unsigned long long)gpa, (unsigned long long)len, use->what,
                       (unsigned long long)use->gpa, (unsigned long long)use->len);
    add_use(map, gpa, len, what);
    *ret_host = host;
    return 0;
}

/* The highest place in [start, end), below everything that is in the way. */
static bool find_highest(const struct ram_map *map, uint64_t start, uint64_t end, uint64_t len,
                         uint64_t align, uint64_t *ret_gpa)
{
    while (end > start && len <= end - start) {
        uint64_t gpa = align_down(end - len, align);
        const struct ram_use *use;

        if (gpa < start)
            return false;
        use = find_overlap(map, gpa, len);
        if (!use) {
            *ret_gpa = gpa;
            return true;
        }
        end = use->gpa;
    }
    return false;
}

int ram_map_take_highest(struct ram_map *map, uint64_t len, uint64_t align, uint64_t limit,
                         const char *what, uint64_t *ret_gpa, uint8_t **ret_host, struct err *err)
{
    char advice[ADVICE_MAX];
    uint64_t needed;

    for (size_t i = map->mem->nregions; i-- > 0;) {
        const struct mem_region *region = &map->mem->regions[i];
        uint64_t end = min_u64(region->gpa + region->len, limit);

        if (find_highest(map, region->gpa, end, len, align, ret_gpa)) {
            add_use(map, *ret_gpa, len, what);
            *ret_host = region->host + (*ret_gpa - region->gpa);
            return 0;
        }
    }
    /* What is added to the RAM is free. */
    advise_memory(map, add_u64(guest_mem_size(map->mem), len, &needed) ? needed : UINT64_MAX,
                  min_u64(limit, X86_LOW_RAM_END), advice);
    return err_set(err, -ENOSPC,
                   "%s of %llu KiB does not fit: the guest has %llu MiB of RAM, and it must lie "
                   "below %#llx beside everything else%s",
                   what, (unsigned long long)div_round_up(len, KIB),
                   (unsigned long long)(guest_mem_size(map->mem) / MIB), (unsigned long long)limit,
                   advice);
}

/* The lowest use that ends above `gpa`. */
static const struct ram_use *next_use(const struct ram_map *map, uint64_t own_gpa, uint64_t gpa)
{
    const struct ram_use *next = NULL;

    for (size_t i = 0; i < map->nuses; i++) {
        const struct ram_use *use = &map->uses[i];

        if (use->gpa != own_gpa && use->gpa + use->len > gpa && (!next || use->gpa < next->gpa))
            next = use;
    }
    return next;
}

/* How many places there are; *ret_gpa is number `nth`, if there are so many. */
static uint64_t count_places(const struct ram_map *map, uint64_t own_gpa,
                             const struct ram_places *places, uint64_t nth, uint64_t *ret_gpa)
{
    uint64_t n = 0;

    for (size_t i = 0; i < map->mem->nregions; i++) {
        const struct mem_region *region = &map->mem->regions[i];
        uint64_t limit = min_u64(region->gpa + region->len, places->limit);
        uint64_t start = max_u64(region->gpa + places->head, places->min);
        const struct ram_use *use;

        do {
            uint64_t end, here;

            start = align_up(start, places->align);
            use = next_use(map, own_gpa, start - places->head);
            end = use ? min_u64(use->gpa, limit) : limit;
            here = end >= start + places->len ? (end - places->len - start) / places->align + 1 : 0;
            if (nth >= n && nth - n < here)
                *ret_gpa = start + (nth - n) * places->align;
            n += here;
            start = use ? use->gpa + use->len + places->head : limit;
        } while (start < limit);
    }
    return n;
}

bool ram_map_choose(const struct ram_map *map, uint64_t own_gpa, const struct ram_places *places,
                    uint64_t random, uint64_t *ret_gpa)
{
    uint64_t n = count_places(map, own_gpa, places, UINT64_MAX, ret_gpa);

    if (n == 0)
        return false;
    (void)count_places(map, own_gpa, places, random % n, ret_gpa);
    return true;
}
