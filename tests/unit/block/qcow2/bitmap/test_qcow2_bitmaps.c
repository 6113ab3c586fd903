/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of an image's persistent bitmaps, as QEMU made them: those that have to follow the
 * disk note what is written, the others stay as they are.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define AUTOCLEAR_AT 88

static uint8_t data[1 << 16];

/* One that follows the disk, one that does not any more. */
static void set_up(void)
{
    scratch_set_up();
    scratch_ok("qemu-img create -q -f qcow2 image 8M && "
               "qemu-img bitmap --add image live && "
               "qemu-img bitmap --add image old && "
               "qemu-io -c 'write -q 1M 1M' image && "
               "qemu-img bitmap --disable image old && cp image before");
}

static struct block *open_image(bool readonly)
{
    return image_open("image", BLOCK_FORMAT_QCOW2, readonly);
}

static void write_image(void)
{
    struct block *block = open_image(false);

    ck_assert_int_eq(mem_block_write(block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(block), 0);
}

static bool has_flag(const char *image, const char *name, const char *flag)
{
    return scratch_shell("qemu-img info -U --output=json %s > info && "
                         "python3 -c \"import json; i = json.load(open('info')); "
                         "b = i['format-specific']['data']['bitmaps']; "
                         "f = [x['flags'] for x in b if x['name'] == '%s'][0]; "
                         "exit(0 if '%s' in f else 1)\"",
                         image, name, flag) == 0;
}

static uint64_t autoclear(void)
{
    uint8_t header[AUTOCLEAR_AT + 8];

    ck_assert_uint_eq(scratch_load("image", header, sizeof(header)), sizeof(header));
    return load_be64(header + AUTOCLEAR_AT);
}

static void poke(const char *at, const char *bytes)
{
    scratch_ok("printf '%s' | dd of=image bs=1 seek=$((%s)) conv=notrunc status=none", bytes, at);
}

START_TEST(reading_changes_nothing)
{
    struct block *block = open_image(true);

    ck_assert_int_eq(mem_block_read(block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(block), 0);
    block = open_image(false);
    ck_assert_int_eq(mem_block_read(block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("cmp image before");
}
END_TEST

/* As long as it is open: if nothing comes after that, nobody takes it for right. */
START_TEST(those_that_follow_the_disk_are_in_use_while_it_is_written)
{
    struct block *block = open_image(false);

    ck_assert_int_eq(mem_block_write(block, 0, data, sizeof(data)), 0);
    scratch_ok("cp image cut");
    ck_assert(has_flag("cut", "live", "in-use"));
    ck_assert(!has_flag("cut", "old", "in-use"));
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(writing_is_noted_in_those_that_follow_the_disk)
{
    write_image();
    scratch_ok("qemu-img check -q image");
    ck_assert(!has_flag("image", "live", "in-use"));
    ck_assert(!has_flag("image", "old", "in-use"));
    ck_assert_uint_eq(autoclear(), 1);
    /* What the one that is left says is what it said. */
    scratch_ok("qemu-img bitmap --remove image live && "
               "qemu-img bitmap --remove before live && "
               "qemu-img bitmap --add --merge old image sum && "
               "qemu-img bitmap --add --merge old before sum && "
               "qemu-img check -q image");
}
END_TEST

START_TEST(all_get_another_length)
{
    struct block *block = open_image(false);
    struct err err = {0};

    ck_assert_msg(block_resize(block, &(struct block_resize_options){.len = 64u << 20}, &err) == 0,
                  "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("qemu-img check -q image");
    ck_assert(!has_flag("image", "live", "in-use"));
    ck_assert(!has_flag("image", "old", "in-use"));
}
END_TEST

/* Nobody can tell what is in it: then the bit goes, and with it all of them. */
START_TEST(damaged_directory_gives_all_of_them_up)
{
    scratch_ok("dir=$(LC_ALL=C grep -obUaP '#\\x85\\x28\\x75' image | head -1 | cut -d: -f1) && "
               "off=$(od -An -tu8 --endian=big -j $((dir + 24)) -N 8 image) && "
               "printf '\\377' | dd of=image bs=1 seek=$((off + 16)) conv=notrunc "
               "status=none");
    write_image();
    ck_assert_uint_eq(autoclear(), 0);
    scratch_ok("qemu-img compare -q image before 2>&1 | grep -q mismatch; "
               "qemu-io -r -c 'read -q -P 0 0 64k' image 2> /dev/null");
}
END_TEST

START_TEST(unknown_autoclear_bits_go)
{
    poke("95", "\\201");
    ck_assert_uint_eq(autoclear(), 0x81);
    write_image();
    ck_assert_uint_eq(autoclear(), 1);
}
END_TEST

/* Another program wrote the image without minding them: they stay unused. */
START_TEST(outdated_bitmaps_are_not_revived)
{
    poke("95", "\\0");
    write_image();
    ck_assert_uint_eq(autoclear(), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "bitmaps", set_up, scratch_tear_down, reading_changes_nothing,
                   those_that_follow_the_disk_are_in_use_while_it_is_written,
                   writing_is_noted_in_those_that_follow_the_disk, all_get_another_length,
                   damaged_directory_gives_all_of_them_up, unknown_autoclear_bits_go,
                   outdated_bitmaps_are_not_revived);
}

UNIT_MAIN_BESIDE_QEMU("qcow2_bitmaps", add_tests)
