/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on disks whose guests never rest. Afterwards a disk shows what was written, here and
 * in QEMU's eyes, and its image is sound.
 */
#include "vmm/disk_ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/disk_load.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/config/config.h"
#include "vmm/disk.h"

#define LEN (16u * MIB)
#define LEN_MAX (64u * MIB)

static struct {
    struct config config;
    struct config_disk disk_config;
    struct open_files files;
    struct loop *main;
    struct disk *disk;
    struct disk_load *load;

    /* Of the operation that was done last. */
    unsigned ndone;
    int result;
    struct err err;
} vm;

/* ---- the machine around a disk --------------------------------------------------------------- */

static void open_disk(const char *name, enum block_format format, bool readonly)
{
    struct err err = {0};

    memset(&vm, 0, sizeof(vm));
    ck_assert_int_eq(loop_new(&vm.main), 0);
    config_init(&vm.config);
    config_disk_init(&vm.disk_config);
    vm.disk_config.path = strdup(scratch_path(name));
    vm.disk_config.format = format;
    vm.disk_config.readonly = readonly;
    vm.disk_config.cache = BLOCK_CACHE_UNSAFE;
    vm.config.disks = &vm.disk_config;
    vm.config.ndisks = 1;
    ck_assert_msg(disk_open(&vm.config, 0, &vm.files, vm.main, &vm.disk, &err) == 0, "%s", err.msg);
}

static void close_disk(void)
{
    struct err err = {0};

    ck_assert_msg(disk_close(vm.disk, &err) == 0, "%s", err.msg);
    disk_free(vm.disk);
    open_files_done(&vm.files);
    config_disk_done(&vm.disk_config);
    loop_free(vm.main);
}

static void start_load(uint64_t max, bool reads_only)
{
    vm.load = disk_load_new(disk_port(vm.disk), LEN, max, NULL, unit_seed());
    vm.load->reads_only = reads_only;
    loop_call(disk_port(vm.disk)->loop, disk_load_start, vm.load);
}

/* The guest and its disk end; what it wrote is there. */
static void end_and_check(const char *name, bool qcow2)
{
    disk_load_end(vm.load);
    close_disk();
    if (qcow2) {
        image_assert_sound(name);
        image_assert_file_shows(name, vm.load->model, vm.load->len);
    } else {
        struct block *block = image_open(name, BLOCK_FORMAT_RAW, true);

        image_assert_shows(block, vm.load->model, vm.load->len);
        ck_assert_int_eq(block_close(block), 0);
    }
    if (qcow2 && scratch_has_qemu())
        image_assert_qemu_agrees(name, vm.load->model, vm.load->len);
    disk_load_free(vm.load);
}

static void op_done(void *opaque, int result, const struct err *err)
{
    vm.ndone++;
    vm.result = result;
    vm.err = *err;
    loop_stop(vm.main);
}

static const struct disk_done when_done = {.fn = op_done};

/* The main loop runs until the operation has reported. */
static int wait_done(void)
{
    const unsigned before = vm.ndone;

    while (vm.ndone == before)
        ck_assert_int_eq(loop_run(vm.main), 0);
    ck_assert_uint_eq(vm.ndone, before + 1);
    ck_assert_int_eq(vm.result, vm.err.code);
    return vm.result;
}

static void make(const char *name, struct block_create_options options)
{
    struct err err = {0};

    options.path = scratch_path(name);
    options.len = LEN;
    ck_assert_msg(block_create(&options, &err) == 0, "%s", err.msg);
}

/* ---- resize ---------------------------------------------------------------------------------- */

static void grow_load(void *opaque)
{
    vm.load->len = *(uint64_t *)opaque;
}

static void grow_under_load(const char *name, bool qcow2)
{
    open_disk(name, qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, false);
    start_load(LEN_MAX, false);
    for (uint64_t len = LEN; len <= LEN_MAX; len += 4 * MIB) {
        disk_load_wait(vm.load, 300);
        ck_assert_int_eq(disk_resize(vm.disk, len, when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
        loop_call(disk_port(vm.disk)->loop, grow_load, &len);
    }
    disk_load_wait(vm.load, 300);
    end_and_check(name, qcow2);
}

START_TEST(a_raw_disk_grows_under_load)
{
    make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    grow_under_load("disk.raw", false);
}
END_TEST

static const struct block_create_options layouts[] = {
    {.format = BLOCK_FORMAT_QCOW2},
    {.format = BLOCK_FORMAT_QCOW2, .cluster_size = 4096}, /* the L1 table grows, too */
    {.format = BLOCK_FORMAT_QCOW2, .cluster_size = 16384, .extended_l2 = true},
    {.format = BLOCK_FORMAT_QCOW2, .cluster_size = 512, .lazy_refcounts = true},
};

START_TEST(a_qcow2_disk_grows_under_load)
{
    make("disk.qcow2", layouts[_i]);
    grow_under_load("disk.qcow2", true);
}
END_TEST

START_TEST(a_disk_does_not_become_shorter)
{
    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN, false);
    ck_assert_int_eq(disk_resize(vm.disk, LEN - 512, when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOTSUP);
    ck_assert_ptr_nonnull(strstr(vm.err.msg, "expected at least the 16777216 that the guest has"));
    end_and_check("disk.qcow2", true);
}
END_TEST

START_TEST(what_cannot_grow_says_so_and_goes_on)
{
    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    start_load(LEN, true);
    ck_assert_int_eq(disk_resize(vm.disk, 2 * LEN, when_done), 0);
    ck_assert_int_eq(wait_done(), -EROFS);
    end_and_check("disk.qcow2", true);

    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN, false);
    ck_assert_int_eq(disk_resize(vm.disk, UINT64_MAX, when_done), 0);
    ck_assert_int_eq(wait_done(), -EFBIG);
    end_and_check("disk.qcow2", true);
}
END_TEST

/* ---- asking ---------------------------------------------------------------------------------- */

START_TEST(operations_come_one_after_the_other)
{
    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN_MAX, false);
    for (uint64_t i = 1; i <= 3; i++)
        ck_assert_int_eq(disk_resize(vm.disk, LEN + i * MIB, when_done), 0);
    ck_assert_int_eq(disk_resize(vm.disk, LEN, when_done), 0); /* shorter by then */
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(wait_done(), 0);
    ck_assert_int_eq(wait_done(), -ENOTSUP);
    vm.load->len = LEN + 3 * MIB;
    end_and_check("disk.qcow2", true);
}
END_TEST

/* Whatever an operation has come to when the VM ends, it reports once. */
START_TEST(operations_report_when_the_disk_is_closed)
{
    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    for (uint64_t i = 1; i <= 3; i++)
        ck_assert_int_eq(disk_resize(vm.disk, LEN + i * MIB, when_done), 0);
    close_disk();
    ck_assert_uint_eq(vm.ndone, 3);
    ck_assert_int_eq(vm.result, -ECANCELED);
    image_assert_sound("disk.qcow2");
}
END_TEST

/* A cancelled disk finishes the operation all the same: the image is sound, and closes. */
START_TEST(the_end_of_a_guest_waits_for_the_operation)
{
    make("disk.qcow2", layouts[1]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_resize(vm.disk, LEN_MAX, when_done), 0);
    disk_cancel(vm.disk);
    (void)wait_done();
    ck_assert_int_eq(vm.result, 0);
    close_disk();
    image_assert_sound("disk.qcow2");
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("resize");

    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, a_raw_disk_grows_under_load);
    tcase_add_loop_test(tcase, a_qcow2_disk_grows_under_load, 0, ARRAY_SIZE(layouts));
    tcase_add_test(tcase, a_disk_does_not_become_shorter);
    tcase_add_test(tcase, what_cannot_grow_says_so_and_goes_on);
    suite_add_tcase(suite, tcase);
    unit_case_with(suite, "asking", scratch_set_up, scratch_tear_down,
                   operations_come_one_after_the_other, operations_report_when_the_disk_is_closed,
                   the_end_of_a_guest_waits_for_the_operation);
}

UNIT_USES_THREADS;
UNIT_MAIN("disk_ops", add_tests)
