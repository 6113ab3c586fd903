/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What qcow2 images may claim about themselves: headers, extensions and tables, good and bad.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define CLUSTER 65536ull
#define DISK_SIZE (8u << 20)

/* Tables of an image by qcow2_image_make. */
#define L1_AT (3 * CLUSTER)
#define L2_AT (4 * CLUSTER)

static struct mem_disk disk;
static struct mem_env env;

static void setup(void)
{
    mem_disk_init(&disk, "image");
    mem_env_init(&env);
    mem_env_add(&env, &disk);
    qcow2_image_make(&disk, &(struct qcow2_image_options){.refcount_order = 4, .size = DISK_SIZE});
}

static void teardown(void)
{
    mem_disk_done(&disk);
}

static int open_image(bool readonly, struct block **ret_block, struct err *err)
{
    struct block_options options = {
        .path = "image", .format = BLOCK_FORMAT_QCOW2, .readonly = readonly, .discard = true};

    return block_open_in(&env.env, &options, ret_block, err);
}

static void put(uint64_t at, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++)
        disk.data[at + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

/* ---- headers --------------------------------------------------------------------------------- */

/* One or two fields of a good header changed. */
static const struct header_case {
    const char *expect; /* part of the message; NULL: opens */
    struct {
        unsigned at;
        unsigned width;
        uint64_t value;
    } put[2];
} header_cases[] = {
    {NULL, {{0, 0, 0}}},
    {"Image is not in qcow2 format", {{0, 4, 0x514649fa}}},
    {"version 1", {{4, 4, 1}}},
    {"version 4", {{4, 4, 4}}},
    {"version 4294967295", {{4, 4, UINT32_MAX}}},
    {"cluster bits", {{20, 4, 8}}},
    {"cluster bits", {{20, 4, 22}}},
    {"cluster bits", {{20, 4, UINT32_MAX}}},
    {"disk size", {{24, 8, UINT64_MAX}}},
    {"disk size", {{24, 8, INT64_MAX}}},
    {"L1 table too small", {{24, 8, 1ull << 40}}},
    {"encrypted with AES", {{32, 4, 1}}},
    {"encrypted with LUKS", {{32, 4, 2}}},
    {"encryption method", {{32, 4, 3}}},
    {"L1 table of entries", {{36, 4, (32u << 20) / 8 + 1}}},
    {"L1 table of entries", {{36, 4, UINT32_MAX}}},
    {"L1 table too small", {{36, 4, 0}}},
    {"L1 table at", {{36, 4, (32u << 20) / 8}}}, /* past the end of the file */
    {"L1 table at", {{40, 8, 0}}},
    {"L1 table at", {{40, 8, L1_AT + 512}}},
    {"L1 table at", {{40, 8, UINT64_MAX & ~65535ull}}},
    {"refcount table at", {{48, 8, 0}}},
    {"refcount table at", {{48, 8, 1ull << 50}}},
    {"refcount table of clusters", {{56, 4, 0}}},
    {"refcount table of clusters", {{56, 4, (8u << 20) / CLUSTER + 1}}},
    {"refcount table of clusters", {{56, 4, UINT32_MAX}}},
    {"number of snapshots", {{60, 4, 65537}}},
    {"snapshot table at", {{60, 4, 1}, {64, 8, 512}}},
    {"snapshot table at", {{60, 4, 1}, {64, 8, 1ull << 40}}},
    {"external data file without", {{72, 8, 4}}},
    {"extended L2 entries with cluster bits", {{20, 4, 13}, {72, 8, 16}}},
    {NULL, {{72, 8, 16}}},
    {"Unknown incompatible feature: 20", {{72, 8, 32}}},
    {"Unknown incompatible feature: 8000000000000000", {{72, 8, 1ull << 63}}},
    {"compression type", {{72, 8, 8}}}, /* the bit without the type */
    {"marked corrupt", {{72, 8, 2}}},
    {NULL, {{80, 8, UINT64_MAX}}}, /* compatible bits: whoever does not know them need not care */
    {NULL, {{88, 8, UINT64_MAX}}}, /* autoclear bits, as well */
    {"refcount order", {{96, 4, 7}}},
    {"refcount order", {{96, 4, UINT32_MAX}}},
    {"header length", {{100, 4, 72}}},
    {"header length", {{100, 4, 108}}},
    {"header length", {{100, 4, UINT32_MAX & ~7u}}},
    {"header extension", {{104, 4, 0x12345678}, {108, 4, UINT32_MAX}}},
    {"header extension", {{104, 4, 0x12345678}, {108, 4, CLUSTER}}},
    {NULL, {{104, 4, 0x12345678}, {108, 4, 16}}},
    {"LUKS", {{104, 4, 0x0537be77}, {108, 4, 16}}},
    {NULL, {{104, 4, 0x44415441}, {108, 4, 4}}}, /* no bit, no data file */
    {"backing file name", {{8, 8, 512}, {16, 4, 1024}}},
    {"backing file name", {{8, 8, CLUSTER - 4}, {16, 4, 8}}},
    {"backing file name", {{8, 8, UINT64_MAX}, {16, 4, 8}}},
    {"backing file name", {{8, 8, 8}, {16, 4, 8}}},
    {"zero byte", {{8, 8, 512}, {16, 4, 8}}},
};

START_TEST(header_is_accepted_or_refused_by_name)
{
    const struct header_case *c = &header_cases[_i];
    struct block *block = NULL;
    struct err err = {0};
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(c->put); i++)
        put(c->put[i].at, c->put[i].width, c->put[i].value);
    r = open_image(false, &block, &err);
    if (!c->expect) {
        ck_assert_msg(r == 0, "%s", err.msg);
        ck_assert_int_eq(block_close(block), 0);
        return;
    }
    ck_assert_int_lt(r, 0);
    ck_assert_msg(strstr(err.msg, c->expect) != NULL, "got \"%s\", expected \"%s\"", err.msg,
                  c->expect);
    ck_assert_msg(strncmp(err.msg, "image: ", 7) == 0, "no file name in \"%s\"", err.msg);
}
END_TEST

START_TEST(unknown_feature_is_refused_by_the_name_that_the_image_gives)
{
    struct block *block;
    struct err err = {0};

    put(72, 8, 1ull << 40);
    put(104, 4, 0x6803f857);
    put(108, 4, 48);
    put(112, 1, 0);
    put(113, 1, 40);
    memcpy(disk.data + 114, "time travel", 12);
    ck_assert_int_eq(open_image(true, &block, &err), -ENOTSUP);
    ck_assert_ptr_nonnull(strstr(err.msg, "time travel"));
}
END_TEST

START_TEST(feature_name_may_end_with_its_table)
{
    struct block *block;
    struct err err = {0};

    put(72, 8, 1ull << 63);
    put(104, 4, 0x6803f857);
    put(108, 4, 2 + 4);
    put(113, 1, 63);
    memcpy(disk.data + 114, "fast", 4);
    ck_assert_int_eq(open_image(true, &block, &err), -ENOTSUP);
    ck_assert_msg(strstr(err.msg, "feature(s): fast") != NULL, "%s", err.msg);
    ck_assert_ptr_null(strstr(err.msg, "Unknown"));
}
END_TEST

START_TEST(unknown_features_are_all_named)
{
    struct block *block;
    struct err err = {0};

    put(72, 8, 1ull << 40 | 1ull << 41 | 1ull << 5);
    put(104, 4, 0x6803f857);
    put(108, 4, 4ull * 48);
    for (unsigned i = 0; i < 4; i++) {
        put(112 + i * 48, 1, i == 3);      /* the last one is a compatible feature */
        put(113 + i * 48, 1, 42 - i % 3u); /* the first one is not in use */
        memset(disk.data + 114 + (size_t)i * 48, 'a' + (int)i, 46);
    }
    ck_assert_int_eq(open_image(true, &block, &err), -ENOTSUP);
    ck_assert_msg(strstr(err.msg, "feature(s): bbbb") != NULL, "%s", err.msg);
    ck_assert_ptr_nonnull(strstr(err.msg, "bb, cc"));
    ck_assert_ptr_nonnull(strstr(err.msg, "cc, Unknown incompatible feature: 20"));
    ck_assert_ptr_null(strstr(err.msg, "dddd"));
    ck_assert_ptr_null(strstr(err.msg, "aaaa"));
}
END_TEST

START_TEST(truncated_files_are_refused)
{
    static const uint64_t lens[] = {0, 1, 4, 71, 72, 103, 104, CLUSTER, 2 * CLUSTER};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        struct block *block;
        struct err err = {0};

        disk.len = lens[i];
        ck_assert_msg(open_image(false, &block, &err) < 0, "length %llu",
                      (unsigned long long)lens[i]);
    }
}
END_TEST

START_TEST(dirty_and_corrupt_images_can_be_read)
{
    struct block *block;
    struct err err = {0};
    uint8_t sector[BLOCK_SECTOR_SIZE];

    put(72, 8, 3);
    ck_assert_int_eq(open_image(true, &block, &err), 0);
    ck_assert_int_eq(mem_block_read(block, 0, sector, sizeof(sector)), 0);
    ck_assert_int_eq(mem_block_write(block, 0, sector, sizeof(sector)), -EROFS);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(autoclear_bits_are_cleared_by_the_first_write_and_not_before)
{
    struct block *block;
    struct err err = {0};
    uint8_t sector[BLOCK_SECTOR_SIZE] = {1};

    put(88, 8, UINT64_MAX);
    ck_assert_int_eq(open_image(false, &block, &err), 0);
    ck_assert_int_eq(mem_block_read(block, 0, sector, sizeof(sector)), 0);
    ck_assert_uint_eq(load_be64(disk.data + 88), UINT64_MAX);
    ck_assert_int_eq(mem_block_write(block, 0, sector, sizeof(sector)), 0);
    ck_assert_uint_eq(load_be64(disk.data + 88), 0);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(unknown_extensions_and_compatible_bits_survive_writing)
{
    static uint8_t before[CLUSTER];
    struct block *block;
    struct err err = {0};
    uint8_t sector[BLOCK_SECTOR_SIZE] = {1};

    put(80, 8, 1ull << 50);
    put(104, 4, 0xfeedface);
    put(108, 4, 8);
    put(112, 8, 0x1122334455667788);
    memcpy(before, disk.data, CLUSTER);
    ck_assert_int_eq(open_image(false, &block, &err), 0);
    ck_assert_int_eq(mem_block_write(block, 0, sector, sizeof(sector)), 0);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_mem_eq(disk.data, before, CLUSTER);
}
END_TEST

/* ---- tables ---------------------------------------------------------------------------------- */

/* An L1 entry and the first L2 entry below it, of an image that has an L2 table. */
static const struct table_case {
    const char *what;
    uint64_t l1;
    uint64_t l2;
    int read;
    int write;
} table_cases[] = {
    {"no table", 0, 0, 0, 0},
    {"table not at a cluster", L2_AT + 512, 0, -EIO, -EIO},
    {"table outside the file", 1ull << 40, 0, -EIO, -EIO},
    {"table at the largest offset", 0x00ffffffffff0000, 0, -EIO, -EIO},
    {"table is the L1 table", L1_AT | 1ull << 63, 0, 0, -EIO},
    {"table is the refcount table", CLUSTER | 1ull << 63, 0, 0, -EIO},
    {"table is a refcount block", 2 * CLUSTER | 1ull << 63, 0, 0, -EIO},
    {"cluster not aligned", L2_AT | 1ull << 63, 5 * CLUSTER + 512, -EIO, -EIO},
    {"cluster beyond all files", L2_AT | 1ull << 63, 0x00ffffffffff0000, -EIO, -EIO},
    {"cluster behind the file's end", L2_AT | 1ull << 63, 1ull << 40, 0, 0},
    {"cluster is the L1 table", L2_AT | 1ull << 63, L1_AT | 1ull << 63, 0, -EIO},
    {"cluster is the L2 table", L2_AT | 1ull << 63, L2_AT | 1ull << 63, 0, -EIO},
    {"cluster is a refcount block", L2_AT | 1ull << 63, 2 * CLUSTER | 1ull << 63, 0, -EIO},
    {"compressed, of garbage", L2_AT | 1ull << 63, 1ull << 62 | CLUSTER, -EIO, -EIO},
    {"compressed, outside the file", L2_AT | 1ull << 63, 1ull << 62 | 1ull << 45, -EIO, -EIO},
    {"compressed, of the greatest length", L2_AT | 1ull << 63, ~(1ull << 63), -EIO, -EIO},
};

START_TEST(bad_table_entries_fail_their_requests_only)
{
    const struct table_case *c = &table_cases[_i];
    uint8_t data[4096] = {0};
    struct block *block;
    struct err err = {0};

    /* An L2 table that is counted, as are its data clusters. */
    disk.len = 8 * CLUSTER;
    for (int i = 4; i < 8; i++)
        put(2 * CLUSTER + 2ull * i, 2, 1);
    put(L1_AT, 8, c->l1);
    put(L2_AT, 8, c->l2);
    put(L2_AT + 8, 8, (7 * CLUSTER) | 1ull << 63);

    ck_assert_int_eq(open_image(true, &block, &err), 0);
    ck_assert_int_eq(mem_block_read(block, 4096, data, sizeof(data)), c->read);
    ck_assert_int_eq(block_close(block), 0);

    ck_assert_int_eq(open_image(false, &block, &err), 0);
    ck_assert_int_eq(mem_block_write(block, 4096, data, sizeof(data)), c->write);
    (void)block_close(block);
    ck_assert_uint_eq(load_be32(disk.data), 0x514649fb);
}
END_TEST

START_TEST(metadata_counted_as_free_marks_the_image_corrupt)
{
    uint8_t sector[BLOCK_SECTOR_SIZE] = {1};
    struct block *block;
    struct err err = {0};

    put(2 * CLUSTER + 2ull * 3, 2, 0); /* the L1 table's count */
    ck_assert_int_eq(open_image(false, &block, &err), 0);
    ck_assert_int_eq(mem_block_write(block, 0, sector, sizeof(sector)), -EIO);
    ck_assert_int_eq(mem_block_write(block, 0, sector, sizeof(sector)), -EIO);
    ck_assert_int_eq(mem_block_read(block, 0, sector, sizeof(sector)), 0);
    (void)block_close(block);
    ck_assert_uint_eq(load_be64(disk.data + 72), 2);
    ck_assert_int_eq(open_image(false, &block, &err), -EROFS);
}
END_TEST

START_TEST(cluster_released_twice_marks_the_image_corrupt)
{
    uint8_t data[4096] = {0};
    struct block *block;
    struct err err = {0};

    /* Two entries for one cluster that is counted once. */
    disk.len = 6 * CLUSTER;
    put(2 * CLUSTER + 2ull * 4, 2, 1);
    put(2 * CLUSTER + 2ull * 5, 2, 1);
    put(L1_AT, 8, L2_AT | 1ull << 63);
    put(L2_AT, 8, 5 * CLUSTER);
    put(L2_AT + 8, 8, 5 * CLUSTER);
    ck_assert_int_eq(open_image(false, &block, &err), 0);
    ck_assert_int_eq(mem_block_write(block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(mem_block_write(block, CLUSTER, data, sizeof(data)), 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert_int_eq(mem_block_write(block, 0, data, sizeof(data)), -EIO);
    (void)block_close(block);
    ck_assert_uint_eq(load_be64(disk.data + 72), 2);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *header = tcase_create("header");
    TCase *tables = tcase_create("tables");

    tcase_add_checked_fixture(header, setup, teardown);
    tcase_add_loop_test(header, header_is_accepted_or_refused_by_name, 0, ARRAY_SIZE(header_cases));
    tcase_add_test(header, unknown_feature_is_refused_by_the_name_that_the_image_gives);
    tcase_add_test(header, feature_name_may_end_with_its_table);
    tcase_add_test(header, unknown_features_are_all_named);
    tcase_add_test(header, truncated_files_are_refused);
    tcase_add_test(header, dirty_and_corrupt_images_can_be_read);
    tcase_add_test(header, autoclear_bits_are_cleared_by_the_first_write_and_not_before);
    tcase_add_test(header, unknown_extensions_and_compatible_bits_survive_writing);
    suite_add_tcase(suite, header);

    tcase_add_checked_fixture(tables, setup, teardown);
    tcase_add_loop_test(tables, bad_table_entries_fail_their_requests_only, 0,
                        ARRAY_SIZE(table_cases));
    tcase_add_test(tables, metadata_counted_as_free_marks_the_image_corrupt);
    tcase_add_test(tables, cluster_released_twice_marks_the_image_corrupt);
    suite_add_tcase(suite, tables);
}

UNIT_MAIN("qcow2_format", add_tests)
