/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "devices/bus.h"
#include "tests/lib/unit.h"

/* A device that answers with its offset and size and records the last write. */
struct probe {
    uint64_t off;
    uint64_t value;
    unsigned size;
    unsigned writes;
};

static uint64_t probe_read(void *dev, uint64_t off, unsigned size)
{
    return 0x8877665544332200ull | off;
}

static void probe_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
    struct probe *probe = dev;

    *probe = (struct probe){off, value, size, probe->writes + 1};
}

static const struct bus_ops probe_ops = {.read = probe_read, .write = probe_write};
static const struct bus_ops deaf_ops = {.read = NULL};

static int add(struct bus *bus, uint64_t base, uint64_t len, void *dev)
{
    const struct bus_range range = {
        .base = base, .len = len, .ops = dev ? &probe_ops : &deaf_ops, .dev = dev, .name = "test"};

    return bus_add(bus, &range);
}

static uint64_t read8(const struct bus *bus, uint64_t addr, unsigned size)
{
    uint64_t value = 0;

    bus_read(bus, addr, &value, size);
    return value;
}

START_TEST(ranges_must_not_overlap)
{
    static const struct {
        uint64_t base, len;
        int result;
    } cases[] = {
        {0x100, 0x10, 0},         {0x100, 0x10, -EEXIST},
        {0x0ff, 2, -EEXIST},      {0x10f, 1, -EEXIST},
        {0x10f, 100, -EEXIST},    {0x0f0, 0x100, -EEXIST},
        {0x104, 2, -EEXIST},      {0x110, 1, 0},
        {0x0f0, 0x10, 0},         {0, 0x10, 0},
        {5, 0, -EINVAL},          {UINT64_MAX, 2, -EINVAL},
        {2, UINT64_MAX, -EINVAL}, {1, UINT64_MAX, -EEXIST},
        {UINT64_MAX, 1, 0},       {0x110, UINT64_MAX - 0x10f, -EEXIST},
    };
    struct bus bus = {0};
    struct probe probe = {0};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_msg(add(&bus, cases[i].base, cases[i].len, &probe) == cases[i].result, "case %zu",
                      i);
    for (size_t i = 1; i < bus.nranges; i++)
        ck_assert_uint_lt(bus.ranges[i - 1].base, bus.ranges[i].base);
}
END_TEST

START_TEST(table_has_an_end)
{
    struct bus bus = {0};
    struct probe probe;

    for (uint64_t i = 0; i < BUS_RANGES_MAX; i++)
        ck_assert_int_eq(add(&bus, i * 16, 8, &probe), 0);
    ck_assert_int_eq(add(&bus, 0x10000, 8, &probe), -ENOSPC);
}
END_TEST

START_TEST(access_finds_its_device)
{
    struct probe probes[5] = {0};
    struct bus bus = {0};

    for (uint64_t i = 0; i < 5; i++)
        ck_assert_int_eq(add(&bus, 0x1000 - i * 0x100, 0x10 + i, &probes[i]), 0);
    for (uint64_t i = 0; i < 5; i++) {
        const uint32_t value = (uint32_t)(0x11223344 + i);

        bus_write(&bus, 0x1000 - i * 0x100 + 4, &value, 4);
        ck_assert_uint_eq(probes[i].off, 4);
        ck_assert_uint_eq(probes[i].size, 4);
        ck_assert_uint_eq(probes[i].value, value);
        ck_assert_uint_eq(probes[i].writes, 1);
    }
}
END_TEST

START_TEST(reads_fill_exactly_their_size)
{
    struct bus bus = {0};
    struct probe probe;

    ck_assert_int_eq(add(&bus, 0x40, 8, &probe), 0);
    for (unsigned size = 1; size <= 8; size++) {
        uint8_t data[9];

        memset(data, 0xee, sizeof(data));
        bus_read(&bus, 0x40, data, size);
        for (unsigned i = 0; i < size; i++)
            ck_assert_uint_eq(data[i], i == 0 ? 0 : 0x11 * (i + 1));
        ck_assert_uint_eq(data[size], 0xee);
    }
}
END_TEST

START_TEST(uncovered_access_reads_ones_and_writes_nothing)
{
    struct probe probe = {0};
    struct bus bus = {0};
    const uint64_t value = 5;

    ck_assert_uint_eq(read8(&bus, 0, 8), UINT64_MAX);
    ck_assert_int_eq(add(&bus, 0x40, 8, &probe), 0);
    ck_assert_int_eq(add(&bus, 0x48, 4, &probe), 0);
    ck_assert_uint_eq(read8(&bus, 0x3f, 1), 0xff);
    ck_assert_uint_eq(read8(&bus, 0x3f, 2), 0xffff);
    ck_assert_uint_eq(read8(&bus, 0x46, 4), 0xffffffff); /* two ranges: neither covers it */
    ck_assert_uint_eq(read8(&bus, 0x4c, 1), 0xff);
    ck_assert_uint_eq(read8(&bus, UINT64_MAX, 8), UINT64_MAX);
    bus_write(&bus, 0x4a, &value, 4);
    bus_write(&bus, 0x4c, &value, 1);
    bus_write(&bus, UINT64_MAX, &value, 8);
    ck_assert_uint_eq(probe.writes, 0);
}
END_TEST

START_TEST(range_may_end_at_the_last_address)
{
    struct probe probe = {0};
    struct bus bus = {0};

    ck_assert_int_eq(add(&bus, UINT64_MAX - 7, 8, &probe), 0);
    ck_assert_uint_eq(read8(&bus, UINT64_MAX, 1), 7);
    ck_assert_uint_eq(read8(&bus, UINT64_MAX, 2), 0xffff);
}
END_TEST

START_TEST(missing_callbacks_are_fine)
{
    const uint32_t value = 5;
    struct bus bus = {0};

    ck_assert_int_eq(add(&bus, 0, 8, NULL), 0);
    ck_assert_uint_eq(read8(&bus, 0, 4), 0xffffffff);
    bus_write(&bus, 0, &value, 4);
}
END_TEST

/* ---- many vCPUs ------------------------------------------------------------------------------ */

#define THREADS 4
#define ACCESSES 5000ul

static void counter_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
    atomic_fetch_add((atomic_uint *)dev, (unsigned)value);
}

static const struct bus_ops counter_ops = {.write = counter_write};

static void *hammer(void *opaque)
{
    const struct bus *bus = opaque;
    const uint8_t one = 1;

    for (uint64_t i = 0; i < ACCESSES; i++) {
        bus_write(bus, (i % BUS_RANGES_MAX) * 16, &one, 1);
        (void)read8(bus, i, 1);
    }
    return NULL;
}

START_TEST(lookups_of_many_threads_all_arrive)
{
    static atomic_uint counters[BUS_RANGES_MAX];
    pthread_t threads[THREADS];
    struct bus bus = {0};
    unsigned sum = 0;

    for (uint64_t i = 0; i < BUS_RANGES_MAX; i++) {
        const struct bus_range range = {
            .base = i * 16, .len = 8, .ops = &counter_ops, .dev = &counters[i]};

        ck_assert_int_eq(bus_add(&bus, &range), 0);
    }
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &bus), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < BUS_RANGES_MAX; i++)
        sum += counters[i];
    ck_assert_uint_eq(sum, THREADS * ACCESSES);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "bus", ranges_must_not_overlap, table_has_an_end, access_finds_its_device,
              reads_fill_exactly_their_size, uncovered_access_reads_ones_and_writes_nothing,
              range_may_end_at_the_last_address, missing_callbacks_are_fine,
              lookups_of_many_threads_all_arrive);
}

UNIT_USES_THREADS;
UNIT_MAIN("bus", add_tests)
