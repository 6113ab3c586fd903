/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who uses which guest RAM when the guest is entered. Everything that boot/ writes is taken here
 * first, so nothing overlaps and nothing lies outside RAM, whatever a kernel file asks for.
 */
#ifndef MINIVMM_BOOT_RAM_MAP_H
#define MINIVMM_BOOT_RAM_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "memory/guest_mem.h"

#define RAM_MAP_USES_MAX 48

struct ram_use {
    uint64_t gpa;
    uint64_t len;
    const char *what; /* for messages; a string that lives as long as the map */
};

struct ram_map {
    const struct guest_mem *mem;
    struct ram_use uses[RAM_MAP_USES_MAX];
    size_t nuses;
};

void ram_map_init(struct ram_map *map, const struct guest_mem *mem);

/*
 * Take [gpa, gpa + len); any numbers will do. Sets *ret_host to where it is in host memory.
 * 0; or a negative errno with *err filled: no RAM there, or taken already.
 */
int ram_map_take(struct ram_map *map, uint64_t gpa, uint64_t len, const char *what,
                 uint8_t **ret_host, struct err *err) MUST_CHECK;

/*
 * Take the highest free `len` bytes below `limit`, aligned to `align`, a power of two. As above;
 * -ENOSPC with *err filled where there is no such place.
 */
int ram_map_take_highest(struct ram_map *map, uint64_t len, uint64_t align, uint64_t limit,
                         const char *what, uint64_t *ret_gpa, uint8_t **ret_host,
                         struct err *err) MUST_CHECK;

/*
 * Places for `len` bytes, with `head` bytes of room in front of them: multiples of `align`, a power
 * of two, in [min, limit). No number is larger than an exabyte.
 */
struct ram_places {
    uint64_t head;
    uint64_t len;
    uint64_t align;
    uint64_t min;
    uint64_t limit;
};

/*
 * Choose one of them by a random number, each with the same chance, as if the use that begins at
 * `own_gpa` were free; nothing is taken. False: there is none.
 */
bool ram_map_choose(const struct ram_map *map, uint64_t own_gpa, const struct ram_places *places,
                    uint64_t random, uint64_t *ret_gpa) MUST_CHECK;

#endif
