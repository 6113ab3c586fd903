/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "boot/ram_map.h"
#include "tests/lib/unit.h"

static struct err err;
static struct guest_mem *mem;
static struct ram_map map;

/* 64 MiB, a hole, and 32 MiB. */
static void set_up(void)
{
    static const struct mem_range ranges[] = {{.gpa = 0, .len = 64 * MIB},
                                              {.gpa = 128 * MIB, .len = 32 * MIB}};

    ck_assert_int_eq(guest_mem_new(ranges, 2, &mem, &err), 0);
    ram_map_init(&map, mem);
}

static void tear_down(void)
{
    guest_mem_free(mem);
}

static void take(uint64_t gpa, uint64_t len)
{
    uint8_t *host;

    ck_assert_int_eq(ram_map_take(&map, gpa, len, "a test", &host, &err), 0);
}

/* By trying each: is it RAM that nobody else has? */
static bool is_place(const struct ram_places *places, uint64_t own_gpa, uint64_t gpa)
{
    void *host;

    if (gpa < places->min || gpa < places->head || gpa + places->len > places->limit ||
        guest_mem_at(mem, gpa - places->head, places->head + places->len, &host) < 0)
        return false;
    for (size_t i = 0; i < map.nuses; i++)
        if (map.uses[i].gpa != own_gpa &&
            ranges_overlap(gpa - places->head, places->head + places->len, map.uses[i].gpa,
                           map.uses[i].len))
            return false;
    return true;
}

/* Each place is chosen by one number, and none is forgotten. */
static void check_all(const struct ram_places *places, uint64_t own_gpa)
{
    uint64_t n = 0, gpa;

    for (gpa = 0; gpa < 256 * MIB; gpa += places->align)
        n += is_place(places, own_gpa, gpa);
    ck_assert_int_eq(ram_map_choose(&map, own_gpa, places, 0, &gpa), n > 0);
    for (uint64_t random = 0, last = 0; random < n; random++, last = gpa) {
        ck_assert(ram_map_choose(&map, own_gpa, places, random, &gpa));
        ck_assert(random == 0 || gpa > last);
        ck_assert_uint_eq(gpa % places->align, 0);
        ck_assert(is_place(places, own_gpa, gpa));
    }
    if (n > 0) {
        uint64_t first;

        ck_assert(ram_map_choose(&map, own_gpa, places, 0, &first));
        ck_assert(ram_map_choose(&map, own_gpa, places, n, &gpa));
        ck_assert_uint_eq(gpa, first);
    }
}

START_TEST(all_free_places_can_be_chosen)
{
    struct ram_places places = {.head = 2 * MIB, .align = 2 * MIB, .limit = UINT64_MAX >> 1};

    take(0x500, 32);
    take(0x9fc00, MIB - 0x9fc00);
    take(16 * MIB, 5 * MIB);    /* the kernel's own */
    take(40 * MIB + 5000, MIB); /* an initrd */
    take(158 * MIB, MIB);
    for (places.len = 0x1000; places.len < 70 * MIB; places.len = 2 * places.len + 0x1000) {
        for (places.min = 0; places.min < 160 * MIB; places.min += 7 * MIB)
            check_all(&places, 16 * MIB);
        places.min = 0;
    }
}
END_TEST

START_TEST(places_end_at_the_limit)
{
    struct ram_places places = {.head = 2 * MIB, .align = 2 * MIB, .len = 5 * MIB};

    take(16 * MIB, 5 * MIB);
    for (places.limit = MIB; places.limit < 170 * MIB; places.limit += 3 * MIB)
        check_all(&places, 16 * MIB);
    places = (struct ram_places){
        .head = 2 * MIB, .align = 2 * MIB, .len = 5 * MIB, .min = 16 * MIB, .limit = 21 * MIB};
    check_all(&places, 16 * MIB);
}
END_TEST

START_TEST(what_is_in_the_way_in_front_counts)
{
    struct ram_places places = {
        .head = 2 * MIB, .align = 2 * MIB, .len = 5 * MIB, .min = 16 * MIB, .limit = 21 * MIB};
    uint64_t gpa;

    take(16 * MIB, 5 * MIB);
    take(15 * MIB, 0x1000);
    ck_assert(!ram_map_choose(&map, 16 * MIB, &places, 0, &gpa));
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "choose", set_up, tear_down, all_free_places_can_be_chosen,
                   places_end_at_the_limit, what_is_in_the_way_in_front_counts);
}

UNIT_MAIN("ram_map", add_tests)
