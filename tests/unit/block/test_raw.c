/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images: their ends, zeroes and discards, and guests that would change the format.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/stack.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/unit.h"

static struct mem_disk disk;
static struct mem_env env;
static uint8_t data[65536];

static void setup(void)
{
    mem_disk_init(&disk, "disk");
    mem_env_init(&env);
    mem_env_add(&env, &disk);
    memset(data, 1, sizeof(data));
}

static void teardown(void)
{
    mem_disk_done(&disk);
}

static struct block *open_len(uint64_t len, enum block_format format)
{
    disk.len = len;
    memset(disk.data, 9, len);
    return mem_env_open(&env, "disk", format, false);
}

START_TEST(odd_file_reads_as_zero_up_to_the_end_of_its_last_sector)
{
    struct block *block = open_len(1000, BLOCK_FORMAT_RAW);
    struct block_info info;

    block_get_info(block, &info);
    ck_assert_uint_eq(info.len, 1024);
    ck_assert_int_eq(mem_block_read(block, 512, data, 512), 0);
    ck_assert_uint_eq(data[1000 - 512 - 1], 9);
    ck_assert_uint_eq(data[1000 - 512], 0);
    ck_assert_uint_eq(data[511], 0);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(status_of_an_odd_file_is_whole_sectors)
{
    static const uint64_t lens[] = {1, 511, 513, 1000, 4097, 70000};
    struct block *block = open_len(lens[_i], BLOCK_FORMAT_RAW);
    uint64_t whole = align_up(lens[_i], 512);
    struct block_status status;

    ck_assert_int_eq(block_get_status(block, 0, whole, false, &status), 0);
    ck_assert_uint_eq(status.flags & (BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO), BLOCK_STATUS_DATA);
    ck_assert_uint_eq(status.len, whole);
    ck_assert_uint_eq(status.beyond, whole - lens[_i]);
    ck_assert_int_eq(block_get_status(block, 0, 512, false, &status), 0);
    ck_assert_uint_eq(status.len, 512);
    ck_assert_uint_eq(status.beyond, whole == 512 ? 512 - lens[_i] : 0);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/* The last sector is data and hole at once: it has to be read. */
START_TEST(hole_that_ends_inside_a_sector_ends_before_it)
{
    struct block *block = open_len(8192 + 100, BLOCK_FORMAT_RAW);
    struct block_status status;

    memset(disk.data, 0, 8192);
    ck_assert_int_eq(block_get_status(block, 512, 8192, false, &status), 0);
    ck_assert_uint_eq(status.flags & (BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO), BLOCK_STATUS_ZERO);
    ck_assert_uint_eq(status.len, 8192 - 512);
    ck_assert_uint_eq(status.beyond, 0);
    ck_assert_int_eq(block_get_status(block, 8192, 512, false, &status), 0);
    ck_assert_uint_eq(status.flags & BLOCK_STATUS_DATA, BLOCK_STATUS_DATA);
    ck_assert_uint_eq(status.beyond, 412);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

static bool is_zero_at(struct block *block, uint64_t off)
{
    struct block_status status;

    ck_assert_int_eq(block_get_status(block, off, 512, false, &status), 0);
    return status.flags & BLOCK_STATUS_ZERO;
}

/* As it happens to backing files that are committed to, and to images under a new overlay. */
START_TEST(holes_are_looked_for_again_when_an_image_was_written)
{
    const struct block_req write = {
        .op = BLOCK_WRITE, .len = 4096, .iov = &(struct iovec){data, 4096}, .niov = 1};
    struct block *block = open_len(65536, BLOCK_FORMAT_RAW);
    struct block_req req;
    struct err err = {0};

    memset(disk.data, 0, 65536);
    ck_assert_int_eq(block_end_writing(block), 0);
    ck_assert(is_zero_at(block, 0));
    ck_assert_int_eq(block_begin_writing(block, &err), 0);
    for (unsigned i = 0; i < 2; i++) {
        const uint64_t off = i * 8192ull;

        if (_i)
            ck_assert(is_zero_at(block, off)); /* asked while it may be written */
        req = write;
        req.off = off;
        ck_assert_int_eq(block_execute(block, &req), 0);
    }
    ck_assert_int_eq(block_end_writing(block), 0);
    ck_assert(!is_zero_at(block, 8192));
    ck_assert(!is_zero_at(block, 0));
    ck_assert(is_zero_at(block, 32768));
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(new_length_is_durable)
{
    static const uint64_t lens[] = {512, 600, 100000, 1 << 20};
    const struct block_resize_options options = {.len = lens[_i], .shrink = true};
    struct block *block = open_len(1000, BLOCK_FORMAT_RAW);
    struct mem_record record = {0};
    struct err err = {0};

    disk.record = &record;
    ck_assert_int_eq(block_resize(block, &options, &err), 0);
    ck_assert_uint_eq(disk.len, lens[_i]);
    ck_assert_uint_eq(disk.counts[MEM_TRUNCATE], 1);
    ck_assert_uint_eq(record.ops[record.n - 1].op, FILE_SYNC);
    disk.record = NULL;
    mem_record_done(&record);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(writing_the_last_sector_grows_the_file_to_its_end_and_no_further)
{
    static const uint32_t aligns[] = {1, 512, 4096};
    struct block *block;

    disk.align = aligns[_i];
    block = open_len(5000, BLOCK_FORMAT_RAW);
    ck_assert_int_eq(mem_block_write(block, 4608, data, 512), 0);
    ck_assert_uint_eq(disk.len, 5120);
    ck_assert_uint_eq(disk.data[4607], 9);
    ck_assert_uint_eq(disk.data[5119], 1);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(zeroes_are_written_where_the_file_system_has_no_way_to_zero)
{
    struct block *block;

    disk.no_zero = _i;
    block = open_len(1 << 20, BLOCK_FORMAT_RAW);
    ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, 0, 512, 300 * 512ull), 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP, 512000, 512), 0);
    ck_assert_uint_eq(disk.data[511], 9);
    for (unsigned i = 512; i < 301 * 512; i++)
        if (disk.data[i] != 0)
            ck_abort_msg("byte %u is %u", i, disk.data[i]);
    ck_assert_uint_eq(disk.data[301 * 512ull], 9);
    ck_assert_uint_eq(disk.data[512000], 0);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(discard_punches_holes_or_does_nothing)
{
    struct block *block;

    disk.no_zero = _i;
    block = open_len(1 << 20, BLOCK_FORMAT_RAW);
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 4096, 8192), 0);
    ck_assert_uint_eq(disk.counts[FILE_PUNCH], 1);
    ck_assert_uint_eq(disk.counts[FILE_WRITE], 0);
    ck_assert_uint_eq(disk.data[4096], _i ? 9 : 0);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/* ---- the first sector ------------------------------------------------------------------------ */

static const struct magic_case {
    const char *text;
    unsigned len;
    unsigned off;
    bool refused;
} magic_cases[] = {
    {"QFI\xfb", 4, 0, true},
    {"QED", 4, 0, true},
    {"KDMV", 4, 0, true},
    {"COWD", 4, 0, true},
    {"vhdxfile", 8, 0, true},
    {"conectix", 8, 0, true},
    {"\x7f\x10\xda\xbe", 4, 64, true},
    {"version=1\n", 10, 0, true},
    {"# Disk DescriptorFile\nversion=1\n", 32, 0, true},
    {"#\n\n  \nversion=3\n", 16, 0, true},
    {"#version=3", 10, 0, false},
    {"# only comments\n# to the end", 28, 0, false},
    {"QFI", 3, 0, false},
    {"QFI\xfb", 4, 1, false},
    {"QFI\xfb\0\0\0\1", 8, 0, true},
    {"LUKS\xba\xbe\0\1", 8, 0, true},
    {"LUKS\xba\xbe\0\2", 8, 0, true},
    {"LUKS\xba\xbe\0\3", 8, 0, false},
    {"LUKS\xba\xbe\0\1", 8, 512, false},
    {"WithoutFreeSpace\2", 17, 0, true},
    {"WithouFreSpacExt\2", 17, 0, true},
    {"Bochs Virtual HD Image", 23, 0, true},
    {"Bochs Virtual HD Images", 23, 0, false},
    {"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", 38, 0, true},
    {"#!/bin/sh\nmodprobe cloop", 24, 0, false},
    {"\xeb\x63\x90", 3, 0, false}, /* a boot sector */
};

START_TEST(probed_image_refuses_headers_of_other_formats_in_its_first_sector)
{
    const struct magic_case *c = &magic_cases[_i];
    static const uint64_t lens[] = {512, 4096, 65536};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        struct block *block = open_len(1 << 20, BLOCK_FORMAT_PROBE);

        memset(data, 1, sizeof(data));
        memset(data, 0, 128);
        memcpy(data + c->off, c->text, c->len);
        if (strstr(c->text, "comments"))
            memset(data + c->len, '#', 512 - c->len);
        ck_assert_int_eq(mem_block_write(block, 0, data, lens[i]), c->refused ? -EPERM : 0);
        ck_assert_uint_eq(disk.data[0], c->refused ? 9 : data[0]);
        ck_assert_uint_eq(disk.data[lens[i] - 1], c->refused ? 9 : data[lens[i] - 1]);
        ck_assert_int_eq(mem_block_write(block, 512, data, 512), 0); /* harmless there */
        ck_assert_int_eq(block_close(block), 0);

        block = open_len(1 << 20, BLOCK_FORMAT_RAW);
        ck_assert_int_eq(mem_block_write(block, 0, data, lens[i]), 0);
        ck_assert_int_eq(block_close(block), 0);
    }
}
END_TEST

static void turn_into_qcow2(void)
{
    memcpy(data, "QFI\xfb\0\0\0\3", 8); /* NOLINT: bytes, not text */
}

/* What was looked at is what is written, whatever the guest does to its memory meanwhile. */
START_TEST(first_sector_is_written_as_it_was_looked_at)
{
    static const uint64_t lens[] = {512, 4096, 65536};
    struct block *block = open_len(1 << 20, BLOCK_FORMAT_PROBE);

    disk.before_write = turn_into_qcow2;
    ck_assert_int_eq(mem_block_write(block, 0, data, lens[_i]), 0);
    ck_assert_uint_eq(disk.data[0], 1);
    ck_assert_uint_eq(disk.data[3], 1);
    ck_assert_uint_eq(disk.data[lens[_i] - 1], 1);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(probed_image_that_is_of_another_format_is_refused)
{
    const struct magic_case *c = &magic_cases[_i];
    const struct block_options options = {.path = "disk", .readonly = true};
    struct err err = {0};
    struct block *block;

    disk.len = 65536;
    memcpy(disk.data + c->off, c->text, c->len);
    if (strstr(c->text, "comments"))
        memset(disk.data + c->len, '#', 512 - c->len);
    if (!c->refused) {
        ck_assert_int_eq(block_open_in(&env.env, &options, &block, &err), 0);
        ck_assert_int_eq(block_close(block), 0);
        return;
    }
    ck_assert_int_lt(block_open_in(&env.env, &options, &block, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "disk: "));
    ck_assert_ptr_nonnull(strstr(err.msg, "expected"));
}
END_TEST

START_TEST(probed_file_without_whole_sectors_is_no_image)
{
    static const uint64_t lens[] = {0, 1, 511, 513, 1000};
    const struct block_options options = {.path = "disk"};
    struct err err = {0};
    struct block *block;

    disk.len = lens[_i];
    ck_assert_int_eq(block_open_in(&env.env, &options, &block, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "disk: not a disk image"));
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("raw");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, odd_file_reads_as_zero_up_to_the_end_of_its_last_sector);
    tcase_add_loop_test(tcase, status_of_an_odd_file_is_whole_sectors, 0, 6);
    tcase_add_test(tcase, hole_that_ends_inside_a_sector_ends_before_it);
    tcase_add_loop_test(tcase, holes_are_looked_for_again_when_an_image_was_written, 0, 2);
    tcase_add_loop_test(tcase, new_length_is_durable, 0, 4);
    tcase_add_loop_test(tcase, first_sector_is_written_as_it_was_looked_at, 0, 3);
    tcase_add_loop_test(tcase, writing_the_last_sector_grows_the_file_to_its_end_and_no_further, 0,
                        3);
    tcase_add_loop_test(tcase, zeroes_are_written_where_the_file_system_has_no_way_to_zero, 0, 2);
    tcase_add_loop_test(tcase, discard_punches_holes_or_does_nothing, 0, 2);
    tcase_add_loop_test(tcase, probed_image_refuses_headers_of_other_formats_in_its_first_sector, 0,
                        ARRAY_SIZE(magic_cases));
    tcase_add_loop_test(tcase, probed_image_that_is_of_another_format_is_refused, 0,
                        ARRAY_SIZE(magic_cases));
    tcase_add_loop_test(tcase, probed_file_without_whole_sectors_is_no_image, 0, 5);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("raw", add_tests)
