/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on disks whose guests never rest. Afterwards a disk shows what was written, here and
 * in QEMU's eyes, and its image is sound.
 */
#include "vmm/disk_ops.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/disk_load.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "vmm/config/config.h"
#include "vmm/disk.h"
#include "vmm/disk_image.h"

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

#define NEXT_ONES 20u

static const struct disk_done when_one_is_done;

/* Ask for the next one, and leave its thread the time to begin. */
static void one_done(void *opaque, int result, const struct err *err)
{
    ck_assert_int_eq(result, 0);
    if (++vm.ndone == NEXT_ONES) {
        loop_stop(vm.main);
        return;
    }
    ck_assert_int_eq(disk_resize(vm.disk, LEN + vm.ndone * MIB, when_one_is_done), 0);
    usleep(2000);
}

static const struct disk_done when_one_is_done = {.fn = one_done};

START_TEST(each_operation_begins_once)
{
    make("disk.qcow2", (struct block_create_options){.format = BLOCK_FORMAT_QCOW2});
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_resize(vm.disk, LEN, when_one_is_done), 0);
    ck_assert_int_eq(loop_run(vm.main), 0);
    ck_assert_uint_eq(vm.ndone, NEXT_ONES);
    close_disk();
}
END_TEST

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

/* ---- what the disk may have shown ------------------------------------------------------------ */

#define UNITS (LEN / DISK_LOAD_UNIT)

/* The disk at a moment, but for what requests were changing. */
struct moment {
    uint8_t *model;
    unsigned versions[UNITS];
    bool busy[UNITS];
};

static void take_on_loop(void *opaque)
{
    struct moment *moment = opaque;

    memcpy(moment->model, vm.load->model, LEN);
    memcpy(moment->versions, vm.load->versions, sizeof(moment->versions));
    memcpy(moment->busy, vm.load->busy, sizeof(moment->busy));
}

static void take_moment(struct moment *moment)
{
    moment->model = malloc(LEN);
    ck_assert_ptr_nonnull(moment->model);
    loop_call(disk_port(vm.disk)->loop, take_on_loop, moment);
}

/*
 * The image shows the disk as it was between two moments: units that nothing changed meanwhile are
 * what they were.
 */
static void assert_between(struct block *block, struct moment *a, struct moment *b)
{
    uint8_t *data = malloc(LEN);

    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(mem_block_read(block, 0, data, LEN), 0);
    for (size_t i = 0; i < UNITS; i++) {
        const size_t at = i * DISK_LOAD_UNIT;

        if (a->busy[i] || b->busy[i] || a->versions[i] != b->versions[i])
            continue;
        ck_assert_msg(memcmp(a->model + at, data + at, DISK_LOAD_UNIT) == 0, "at %zu", at);
    }
    free(data);
    free(a->model);
    free(b->model);
}

/* ---- snapshots inside the image -------------------------------------------------------------- */

#define SNAPSHOTS 4u

static void assert_snapshot_between(const char *name, struct moment *a, struct moment *b)
{
    struct block *block = image_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    struct err err = {0};

    ck_assert_msg(block_snapshot_show(block, name, &err) == 0, "%s", err.msg);
    assert_between(block, a, b);
    ck_assert_int_eq(block_close(block), 0);
}

START_TEST(snapshots_are_taken_and_deleted_under_load)
{
    static struct moment before[SNAPSHOTS];
    static struct moment after[SNAPSHOTS];
    struct block_snapshot deleted;
    char name[8];

    make("disk.qcow2", layouts[_i]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN, false);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        disk_load_wait(vm.load, 400);
        (void)snprintf(name, sizeof(name), "s%u", i);
        take_moment(&before[i]);
        ck_assert_int_eq(disk_snapshot_create(vm.disk, name, when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
        take_moment(&after[i]);
    }
    disk_load_wait(vm.load, 400);
    ck_assert_int_eq(disk_snapshot_delete(vm.disk, "2", NULL, &deleted, when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    ck_assert_str_eq(deleted.name, "s1");
    ck_assert_uint_eq(deleted.len, LEN);
    free(deleted.id);
    free(deleted.name);
    disk_load_wait(vm.load, 400);
    end_and_check("disk.qcow2", true);
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        (void)snprintf(name, sizeof(name), "s%u", i);
        if (i == 1)
            continue;
        assert_snapshot_between(name, &before[i], &after[i]);
    }
}
END_TEST

START_TEST(snapshots_that_cannot_be_say_so)
{
    struct block_snapshot deleted;

    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN, false);
    ck_assert_int_eq(disk_snapshot_create(vm.disk, "2", when_done), 0);
    ck_assert_int_eq(wait_done(), 0);
    ck_assert_int_eq(disk_snapshot_create(vm.disk, "2", when_done), 0);
    ck_assert_int_eq(wait_done(), -EEXIST);
    ck_assert_int_eq(disk_snapshot_delete(vm.disk, "1", "3", &deleted, when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOENT);
    ck_assert_int_eq(disk_snapshot_create(vm.disk, "b", when_done), 0);
    ck_assert_int_eq(wait_done(), 0);
    ck_assert_int_eq(disk_snapshot_delete(vm.disk, "2", NULL, &deleted, when_done), 0);
    ck_assert_int_eq(wait_done(), -EINVAL); /* the first one is called that */
    ck_assert_int_eq(disk_snapshot_delete(vm.disk, "1", "2", &deleted, when_done), 0);
    ck_assert_int_eq(wait_done(), 0);
    ck_assert_str_eq(deleted.id, "1");
    free(deleted.id);
    free(deleted.name);
    end_and_check("disk.qcow2", true);

    make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    open_disk("disk.raw", BLOCK_FORMAT_RAW, false);
    start_load(LEN, false);
    ck_assert_int_eq(disk_snapshot_create(vm.disk, "a", when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOTSUP);
    end_and_check("disk.raw", false);
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------------- */

static sem_t host_answers;

static void wait_for_host(struct loop_work *work)
{
    while (sem_wait(&host_answers) < 0)
        ; /* EINTR */
}

/* The main thread serves all clients, and a host that hangs is no reason to keep it waiting. */
START_TEST(limits_do_not_wait_for_a_disk_that_hangs)
{
    struct loop_work work = {.run = wait_for_host};
    struct throttle_limits limits;

    ck_assert_int_eq(sem_init(&host_answers, 0, 0), 0);
    throttle_limits_init(&limits);
    limits.kinds[THROTTLE_IOPS].avg = 7;
    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    loop_post(disk_port(vm.disk)->loop, &work);
    ck_assert_int_eq(disk_set_limits(vm.disk, &limits, when_done), 0);
    limits.kinds[THROTTLE_IOPS].avg = 8;
    ck_assert_int_eq(disk_set_limits(vm.disk, &limits, when_done), 0);
    ck_assert_uint_eq(vm.ndone, 0);
    sem_post(&host_answers);
    while (vm.ndone < 2)
        ck_assert_int_eq(loop_run(vm.main), 0);
    ck_assert_int_eq(vm.result, 0);
    ck_assert_uint_eq(disk_port(vm.disk)->throttle.limits.kinds[THROTTLE_IOPS].avg, 8);
    close_disk();
}
END_TEST

/* ---- overlays -------------------------------------------------------------------------------- */

#define OVERLAYS 4u

static void overlay_name(unsigned i, char name[16])
{
    (void)snprintf(name, 16, "o%u.qcow2", i);
}

static void put_overlays(const char *base, bool qcow2)
{
    static struct moment before[OVERLAYS];
    static struct moment after[OVERLAYS];
    char name[16];

    open_disk(base, qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, false);
    start_load(LEN, false);
    for (unsigned i = 0; i < OVERLAYS; i++) {
        disk_load_wait(vm.load, 400);
        overlay_name(i, name);
        take_moment(&before[i]);
        ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path(name), when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
        take_moment(&after[i]);
    }
    disk_load_wait(vm.load, 400);
    end_and_check(name, true);
    for (unsigned i = 0; i < OVERLAYS; i++) {
        struct block *block;

        if (i > 0)
            overlay_name(i - 1, name);
        block = image_open(i > 0 ? name : base,
                           i > 0 || qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, true);
        assert_between(block, &before[i], &after[i]);
        ck_assert_int_eq(block_close(block), 0);
        if (i > 0 || qcow2)
            image_assert_sound(i > 0 ? name : base);
    }
}

START_TEST(a_qcow2_disk_goes_on_in_overlays_under_load)
{
    make("disk.qcow2", layouts[_i]);
    put_overlays("disk.qcow2", true);
}
END_TEST

START_TEST(a_raw_disk_goes_on_in_overlays_under_load)
{
    make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    put_overlays("disk.raw", false);
}
END_TEST

START_TEST(an_overlay_can_have_snapshots_and_become_longer)
{
    uint64_t len = LEN + 5 * MIB;

    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN_MAX, false);
    disk_load_wait(vm.load, 300);
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
    ck_assert_int_eq(disk_snapshot_create(vm.disk, "s", when_done), 0);
    ck_assert_int_eq(disk_resize(vm.disk, len, when_done), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    loop_call(disk_port(vm.disk)->loop, grow_load, &len);
    disk_load_wait(vm.load, 300);
    end_and_check("o.qcow2", true);
}
END_TEST

/* To QEMU they are none. */
static const char *const no_paths[] = {"json:{\"driver\":\"qcow2\"}", "nbd:localhost:10809",
                                       "file:o.qcow2", "nbd+unix:///disk?socket=s"};

/* Whatever is in the way, the guest goes on in the present image. */
START_TEST(an_overlay_that_cannot_be_says_so)
{
    char name[16];

    make("disk.qcow2", layouts[0]);
    scratch_save("there", "x", 1);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN, false);
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("there"), when_done), 0);
    ck_assert_int_eq(wait_done(), -EEXIST);
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("disk.qcow2"), when_done), 0);
    ck_assert_int_eq(wait_done(), -EINVAL); /* its own backing file */
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, "/nowhere/o.qcow2", when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOENT);
    ck_assert_int_eq(access(scratch_path("there"), F_OK), 0);
    scratch_ok("ln -s target link");
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("link"), when_done), 0);
    ck_assert_int_eq(wait_done(), -EEXIST);
    ck_assert_int_ne(access(scratch_path("target"), F_OK), 0);
    for (size_t i = 0; i < ARRAY_SIZE(no_paths); i++) {
        ck_assert_int_eq(disk_snapshot_overlay(vm.disk, no_paths[i], when_done), 0);
        ck_assert_int_eq(wait_done(), -ENOTSUP);
        ck_assert_ptr_nonnull(strstr(vm.err.msg, "a path is expected"));
        ck_assert_int_ne(access(no_paths[i], F_OK), 0);
    }
    ck_assert_uint_eq(vm.files.n, 1);
    scratch_ok("mv disk.qcow2 moved.qcow2");
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOENT);
    ck_assert_int_ne(access(scratch_path("o.qcow2"), F_OK), 0);
    scratch_ok("mv moved.qcow2 disk.qcow2");
    end_and_check("disk.qcow2", true);

    /* As many images as there may be on top of each other. */
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
    ck_assert_int_eq(wait_done(), -EROFS);
    close_disk();
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    for (unsigned i = 1; i < BLOCK_CHAIN_MAX; i++) {
        overlay_name(i, name);
        ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path(name), when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    }
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
    ck_assert_int_eq(wait_done(), -ELOOP);
    ck_assert_int_ne(access(scratch_path("o.qcow2"), F_OK), 0);
    close_disk();
}
END_TEST

static void assert_named_after(const char *name)
{
    char label[512];

    (void)snprintf(label, sizeof(label), "disk vda (%s)", scratch_path(name));
    ck_assert_str_eq(disk_label(vm.disk), label);
}

START_TEST(messages_name_the_image_that_is_written)
{
    const char *before;

    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    assert_named_after("disk.qcow2");
    before = disk_label(vm.disk);
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    assert_named_after("o.qcow2");
    ck_assert_str_ne(before, disk_label(vm.disk)); /* somebody may be about to print it */
    ck_assert_int_eq(disk_commit(vm.disk, NULL, 0, when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    assert_named_after("disk.qcow2");
    ck_assert_ptr_eq(disk_label(vm.disk), before);
    close_disk();
}
END_TEST

/* The present image is a backing file then: others may read it, and nobody may write it. */
START_TEST(the_image_below_an_overlay_can_be_read_by_others)
{
    struct open_file_use use = {.path = "x"};
    struct err err = {0};
    struct block *block;

    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    use.path = scratch_path("disk.qcow2");
    ck_assert_int_eq(open_files_add_path(&vm.files, &use, &err), -EBUSY);
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
    ck_assert_int_eq(wait_done(), 0);
    block = image_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_int_eq(open_files_add_path(&vm.files, &use, &err), 0);
    use.path = scratch_path("o.qcow2");
    ck_assert_int_eq(open_files_check_path(&vm.files, use.path, &err), -EBUSY);
    ck_assert_int_eq(open_files_add_path(&vm.files, &use, &err), -EBUSY);
    ck_assert_int_lt(
        block_open(&(struct block_options){.path = scratch_path("disk.qcow2")}, &block, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "in use already, by this process"));
    close_disk();
}
END_TEST

/* ---- which files are in use ------------------------------------------------------------------ */

/* May something that only reads the file use it as well? */
static int ask_to_read(const char *name)
{
    struct open_files files = vm.files;
    const struct open_file_use use = {.path = scratch_path(name)};
    struct err err = {0};
    int r = open_files_add_path(&files, &use, &err);

    if (r == 0)
        files.n--;
    vm.files = files;
    return r;
}

START_TEST(external_data_files_are_listed_as_their_images_are)
{
    make("disk.qcow2",
         (struct block_create_options){.format = BLOCK_FORMAT_QCOW2, .data_file = "data"});
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_uint_eq(vm.files.n, 2);
    ck_assert_int_eq(ask_to_read("data"), -EBUSY);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
        ck_assert_uint_eq(vm.files.n, 3);
        ck_assert_int_eq(ask_to_read("data"), 0);
        ck_assert_int_eq(ask_to_read("disk.qcow2"), 0);
        ck_assert_int_eq(ask_to_read("o.qcow2"), -EBUSY);
        if (i > 0)
            continue;
        ck_assert_int_eq(disk_commit(vm.disk, NULL, 0, when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
        ck_assert_uint_eq(vm.files.n, 2);
        ck_assert_int_eq(ask_to_read("data"), -EBUSY);
        ck_assert_int_eq(ask_to_read("disk.qcow2"), -EBUSY);
        ck_assert_int_eq(ask_to_read("o.qcow2"), 0);
        scratch_ok("rm o.qcow2");
    }
    ck_assert_int_eq(disk_stream(vm.disk, 0, when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    ck_assert_uint_eq(vm.files.n, 1);
    ck_assert_int_eq(ask_to_read("o.qcow2"), -EBUSY);
    close_disk();
}
END_TEST

/* What belongs to others stays theirs. */
START_TEST(an_image_that_is_refused_leaves_the_list_as_it_was)
{
    struct block_create_options overlay = layouts[0];
    const struct open_file_use kernel = {.path = scratch_path("disk.qcow2"), .writable = true};
    struct disk_image image = {.vm = &vm.config, .files = &vm.files};
    struct block *block;
    struct err err = {0};

    make("disk.qcow2", layouts[0]);
    overlay.backing_file = "disk.qcow2";
    overlay.backing_format = BLOCK_FORMAT_QCOW2;
    make("o.qcow2", overlay);
    make("other.qcow2", layouts[0]);
    open_disk("other.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(open_files_add_path(&vm.files, &kernel, &err), 0);
    image.overlay = scratch_path("disk.qcow2");
    ck_assert_int_eq(disk_image_open(&image, &block, &err), -EBUSY);
    free(vm.disk_config.path);
    image.overlay = NULL;
    vm.disk_config.path = strdup(scratch_path("o.qcow2"));
    ck_assert_int_eq(disk_image_open(&image, &block, &err), -EBUSY);
    ck_assert_uint_eq(vm.files.n, 2);
    ck_assert_int_eq(ask_to_read("o.qcow2"), 0);
    ck_assert_int_eq(ask_to_read("disk.qcow2"), -EBUSY);
    close_disk();
}
END_TEST

/* ---- streaming ------------------------------------------------------------------------------- */

/* A guest at work on a disk of three images. */
static void start_on_chain(const char *base, bool qcow2)
{
    open_disk(base, qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, false);
    start_load(LEN, false);
    for (unsigned i = 0; i < 2; i++) {
        char name[16];

        overlay_name(i, name);
        disk_load_wait(vm.load, 500);
        ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path(name), when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    }
}

static void stream_under_load(const char *base, bool qcow2)
{
    struct block_details details;
    struct block *block;

    start_on_chain(base, qcow2);
    ck_assert_int_eq(disk_stream(vm.disk, 0, when_done), 0);
    ck_assert_ptr_nonnull(disk_job(vm.disk));
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    ck_assert_ptr_null(disk_job(vm.disk));
    ck_assert_uint_eq(vm.files.n, 1);
    scratch_ok("rm %s o0.qcow2", base); /* nobody needs them any more */
    disk_load_wait(vm.load, 500);
    ck_assert_int_eq(disk_snapshot_create(vm.disk, "s", when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    disk_load_wait(vm.load, 100);
    end_and_check("o1.qcow2", true);
    block = image_open("o1.qcow2", BLOCK_FORMAT_QCOW2, true);
    block_get_details(block, &details);
    ck_assert_ptr_null(details.backing_name);
    ck_assert_int_eq(block_close(block), 0);
}

START_TEST(a_chain_is_streamed_under_load)
{
    make("disk.qcow2", layouts[_i]);
    stream_under_load("disk.qcow2", true);
}
END_TEST

START_TEST(a_raw_base_is_streamed_under_load)
{
    make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    stream_under_load("disk.raw", false);
}
END_TEST

START_TEST(a_job_keeps_its_speed_and_can_be_cancelled)
{
    make("disk.qcow2", layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_stream(vm.disk, 1024, when_done), 0);
    disk_load_wait(vm.load, 200);
    ck_assert_int_eq(disk_resize(vm.disk, 2 * LEN, when_done), -EBUSY);
    ck_assert_int_eq(disk_stream(vm.disk, 0, when_done), -EBUSY);
    ck_assert_uint_lt(block_job_get(&disk_job(vm.disk)->offset), LEN / 2);
    block_job_let(&disk_job(vm.disk)->cancelled, true);
    ck_assert_int_eq(wait_done(), -ECANCELED);
    ck_assert_ptr_null(disk_job(vm.disk));
    ck_assert_uint_eq(vm.files.n, 3);
    disk_load_wait(vm.load, 200);

    /* Paused, it does not move; what was copied need not be copied again. */
    ck_assert_int_eq(disk_stream(vm.disk, 0, when_done), 0);
    block_job_let(&disk_job(vm.disk)->paused, true);
    disk_load_wait(vm.load, 500);
    ck_assert_uint_eq(vm.ndone, 3);
    block_job_let(&disk_job(vm.disk)->paused, false);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    end_and_check("o1.qcow2", true);
}
END_TEST

START_TEST(a_disk_that_is_closed_ends_its_job)
{
    make("disk.qcow2", layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_stream(vm.disk, 1024, when_done), 0);
    disk_load_wait(vm.load, 100);
    end_and_check("o1.qcow2", true);
    ck_assert_uint_eq(vm.ndone, 3);
    ck_assert_int_eq(vm.result, -ECANCELED);
}
END_TEST

START_TEST(what_has_no_backing_file_is_not_streamed)
{
    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_stream(vm.disk, 0, when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOTSUP);
    close_disk();
}
END_TEST

/* ---- committing ------------------------------------------------------------------------------ */

/* The overlay is empty afterwards, and so shows the disk as well. */
static void commit_under_load(const char *base, bool qcow2)
{
    open_disk(base, qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW, false);
    start_load(LEN, false);
    for (unsigned i = 0; i < 2; i++) {
        disk_load_wait(vm.load, 300);
        scratch_ok("rm -f o.qcow2");
        ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
        disk_load_wait(vm.load, 300);
        ck_assert_int_eq(disk_commit(vm.disk, NULL, 0, when_done), 0);
        ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
        ck_assert_uint_eq(vm.files.n, 1);
    }
    disk_load_wait(vm.load, 300);
    disk_load_end(vm.load);
    close_disk();
    image_assert_sound("o.qcow2");
    image_assert_file_shows("o.qcow2", vm.load->model, LEN);
    if (qcow2)
        image_assert_sound(base);
    if (qcow2 && scratch_has_qemu())
        image_assert_qemu_agrees(base, vm.load->model, LEN);
    scratch_ok("rm o.qcow2");
    if (qcow2) {
        image_assert_file_shows(base, vm.load->model, LEN);
    } else {
        struct block *block = image_open(base, BLOCK_FORMAT_RAW, true);

        image_assert_shows(block, vm.load->model, LEN);
        ck_assert_int_eq(block_close(block), 0);
    }
    disk_load_free(vm.load);
}

START_TEST(an_overlay_is_committed_under_load)
{
    make("disk.qcow2", layouts[_i]);
    commit_under_load("disk.qcow2", true);
}
END_TEST

START_TEST(an_overlay_is_committed_to_a_raw_base_under_load)
{
    make("disk.raw", (struct block_create_options){.format = BLOCK_FORMAT_RAW});
    commit_under_load("disk.raw", false);
}
END_TEST

/* So long that a mark stands for more than is copied at once. */
START_TEST(an_overlay_of_a_huge_disk_is_committed_under_load)
{
    const struct block_create_options options = {.path = scratch_path("disk.qcow2"),
                                                 .format = BLOCK_FORMAT_QCOW2,
                                                 .len = 17ull << 40,
                                                 .cluster_size = 2 * MIB};
    struct err err = {0};
    struct block *block;

    ck_assert_msg(block_create(&options, &err) == 0, "%s", err.msg);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN, false);
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    disk_load_wait(vm.load, 300);
    ck_assert_int_eq(disk_commit(vm.disk, NULL, 0, when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    disk_load_wait(vm.load, 300);
    disk_load_end(vm.load);
    close_disk();
    image_assert_sound("disk.qcow2");
    block = image_open("disk.qcow2", BLOCK_FORMAT_QCOW2, true);
    image_assert_shows(block, vm.load->model, LEN);
    ck_assert_int_eq(block_close(block), 0);
    disk_load_free(vm.load);
}
END_TEST

/* It was opened for reading only, as a backing file is, and is shorter. */
START_TEST(a_base_is_opened_for_writing_and_becomes_longer)
{
    struct block_create_options overlay = layouts[0];

    make("disk.qcow2", layouts[1]);
    overlay.backing_file = "disk.qcow2";
    overlay.backing_format = BLOCK_FORMAT_QCOW2;
    make("o.qcow2", overlay);
    {
        struct block *block = image_open("o.qcow2", BLOCK_FORMAT_QCOW2, false);
        struct block_resize_options options = {.len = LEN + MIB};

        ck_assert_int_eq(block_resize(block, &options, NULL), 0);
        ck_assert_int_eq(block_close(block), 0);
    }
    open_disk("o.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN + MIB, false);
    vm.load->len = LEN + MIB;
    disk_load_wait(vm.load, 300);
    ck_assert_int_eq(disk_commit(vm.disk, scratch_path("disk.qcow2"), 0, when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    disk_load_wait(vm.load, 300);
    end_and_check("disk.qcow2", true);
}
END_TEST

START_TEST(a_commit_that_cannot_be_says_so)
{
    struct block *other;

    make("disk.qcow2", layouts[0]);
    start_on_chain("disk.qcow2", true);
    ck_assert_int_eq(disk_commit(vm.disk, NULL, 0, when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOTSUP); /* which one? */
    ck_assert_int_eq(disk_commit(vm.disk, scratch_path("disk.qcow2"), 0, when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOTSUP);
    other = image_open("o0.qcow2", BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(disk_commit(vm.disk, scratch_path("o0.qcow2"), 0, when_done), 0);
    ck_assert_int_eq(wait_done(), -EAGAIN); /* somebody else has it as a backing file */
    ck_assert_int_eq(block_close(other), 0);

    ck_assert_int_eq(disk_commit(vm.disk, scratch_path("o0.qcow2"), 1024, when_done), 0);
    disk_load_wait(vm.load, 300);
    block_job_let(&disk_job(vm.disk)->cancelled, true);
    ck_assert_int_eq(wait_done(), -ECANCELED);
    disk_load_wait(vm.load, 300);
    other = image_open("o0.qcow2", BLOCK_FORMAT_QCOW2, true); /* it can be read again */
    ck_assert_int_eq(block_close(other), 0);
    ck_assert_int_eq(disk_commit(vm.disk, scratch_path("o0.qcow2"), 0, when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    ck_assert_int_eq(disk_commit(vm.disk, scratch_path("disk.qcow2"), 0, when_done), 0);
    ck_assert_msg(wait_done() == 0, "%s", vm.err.msg);
    ck_assert_int_eq(disk_commit(vm.disk, NULL, 0, when_done), 0);
    ck_assert_int_eq(wait_done(), -ENOTSUP);
    disk_load_wait(vm.load, 300);
    end_and_check("disk.qcow2", true);
}
END_TEST

/* ---- asking ---------------------------------------------------------------------------------- */

START_TEST(operations_come_one_after_the_other)
{
    uint64_t len = LEN + 3 * MIB;

    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    start_load(LEN_MAX, false);
    for (uint64_t i = 1; i <= 3; i++)
        ck_assert_int_eq(disk_resize(vm.disk, LEN + i * MIB, when_done), 0);
    ck_assert_int_eq(disk_resize(vm.disk, LEN, when_done), 0); /* shorter by then */
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(wait_done(), 0);
    ck_assert_int_eq(wait_done(), -ENOTSUP);
    loop_call(disk_port(vm.disk)->loop, grow_load, &len);
    end_and_check("disk.qcow2", true);
}
END_TEST

/* Whatever an operation has come to when the VM ends, it reports once. */
START_TEST(a_disk_is_closed_while_its_image_changes)
{
    make("disk.qcow2", layouts[0]);
    open_disk("disk.qcow2", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(disk_snapshot_overlay(vm.disk, scratch_path("o.qcow2"), when_done), 0);
    (void)usleep((useconds_t)_i * 100);
    close_disk();
    ck_assert_uint_eq(vm.ndone, 1);
    ck_assert(vm.result == 0 || vm.result == -ECANCELED);
    ck_assert_int_eq(access(scratch_path("o.qcow2"), F_OK) == 0, vm.result == 0);
    image_assert_sound("disk.qcow2");
    if (vm.result == 0)
        image_assert_sound("o.qcow2");
}
END_TEST

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

/* Loops of tests with each layout, and tests alone. */
static void add(Suite *suite, const char *name, const TTest *const *each, const TTest *const *alone)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_set_timeout(tcase, 300);
    for (; *each; each++)
        tcase_add_loop_test(tcase, *each, 0, ARRAY_SIZE(layouts));
    for (; *alone; alone++)
        tcase_add_test(tcase, *alone);
    suite_add_tcase(suite, tcase);
}

#define TESTS(...) ((const TTest *const[]){__VA_ARGS__, NULL})

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("closing");

    add(suite, "resize", TESTS(a_qcow2_disk_grows_under_load), TESTS(a_raw_disk_grows_under_load));
    add(suite, "snapshots",
        TESTS(snapshots_are_taken_and_deleted_under_load,
              a_qcow2_disk_goes_on_in_overlays_under_load),
        TESTS(a_raw_disk_goes_on_in_overlays_under_load,
              an_overlay_can_have_snapshots_and_become_longer));
    add(suite, "stream", TESTS(a_chain_is_streamed_under_load),
        TESTS(a_raw_base_is_streamed_under_load, a_job_keeps_its_speed_and_can_be_cancelled,
              a_disk_that_is_closed_ends_its_job));
    add(suite, "commit", TESTS(an_overlay_is_committed_under_load),
        TESTS(an_overlay_is_committed_to_a_raw_base_under_load,
              an_overlay_of_a_huge_disk_is_committed_under_load,
              a_base_is_opened_for_writing_and_becomes_longer));
    add(suite, "refused", TESTS(NULL),
        TESTS(a_disk_does_not_become_shorter, what_cannot_grow_says_so_and_goes_on,
              snapshots_that_cannot_be_say_so, an_overlay_that_cannot_be_says_so,
              the_image_below_an_overlay_can_be_read_by_others,
              messages_name_the_image_that_is_written,
              external_data_files_are_listed_as_their_images_are,
              an_image_that_is_refused_leaves_the_list_as_it_was,
              what_has_no_backing_file_is_not_streamed, a_commit_that_cannot_be_says_so));
    add(suite, "asking", TESTS(NULL),
        TESTS(limits_do_not_wait_for_a_disk_that_hangs, operations_come_one_after_the_other,
              each_operation_begins_once, operations_report_when_the_disk_is_closed,
              the_end_of_a_guest_waits_for_the_operation));
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, a_disk_is_closed_while_its_image_changes, 0, 8);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("disk_ops", add_tests)
