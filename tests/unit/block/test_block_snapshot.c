/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots inside an image, made by one program and used by the other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define DISK_SIZE (2u << 20)

static unsigned base_seed;
static unsigned seed;
static uint8_t buf[DISK_SIZE];

static struct block *open_image(bool readonly)
{
    return image_open("image", BLOCK_FORMAT_QCOW2, readonly);
}

typedef int change_fn(struct block *block, const char *which, struct err *err);

static int create(struct block *block, const char *name, struct err *err)
{
    const struct block_snapshot snapshot = {
        .name = (char *)(uintptr_t)name, .date_sec = 1700000000, .date_nsec = 5};

    return block_snapshot_create(block, &snapshot, err);
}

static void do_well(change_fn *change, const char *which)
{
    struct block *block = open_image(false);
    struct err err = {0};

    ck_assert_msg(change(block, which, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
}

/* The same, and QEMU finds nothing wrong with it. */
static void do_ok(change_fn *change, const char *which)
{
    do_well(change, which);
    scratch_ok("qemu-img check -q -f qcow2 image");
}

static int try(change_fn *change, const char *which, struct err *err)
{
    struct block *block = open_image(false);
    int r = change(block, which, err);

    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("qemu-img check -q -f qcow2 image");
    return r;
}

/* ---- one after the other --------------------------------------------------------------------- */

static const char *const images[] = {
    "cluster_size=64k",
    "cluster_size=512",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=4k,refcount_bits=2",
    "cluster_size=64k,refcount_bits=4",
    "cluster_size=2M,refcount_bits=8",
    "cluster_size=4k,compat=0.10",
    "cluster_size=4k,preallocation=metadata",
};

/* Have one of the two do it. */
static void change_by(unsigned qemu, char op, const char *which)
{
    if (qemu)
        scratch_ok("qemu-img snapshot -%c %s image", op, which);
    else
        do_well(op == 'c'   ? create
                : op == 'a' ? block_snapshot_apply
                            : block_snapshot_delete,
                which);
}

static void write_by(unsigned qemu, unsigned byte, uint64_t off, uint64_t len)
{
    struct block *block;

    if (qemu) {
        scratch_ok("qemu-io -c 'write -q -P %u %llu %llu' image", byte, (unsigned long long)off,
                   (unsigned long long)len);
        return;
    }
    memset(buf, (int)byte, len);
    block = open_image(false);
    ck_assert_int_eq(mem_block_write(block, off, buf, len), 0);
    ck_assert_int_eq(block_close(block), 0);
}

#define STATES_MAX 4u

/* A random walk of both programs over an image and its snapshots, with a model of each state. */
static struct {
    uint8_t disk[DISK_SIZE];
    uint8_t states[STATES_MAX][DISK_SIZE];
    bool taken[STATES_MAX];
    unsigned ntaken;
    unsigned most; /* at a time */
} model;

static unsigned rnd(unsigned below)
{
    return (unsigned)rand_r(&seed) % below;
}

static void step(unsigned i)
{
    static const char *const names[] = {"one", "two", "three", "four"};
    unsigned k = rnd(STATES_MAX);
    unsigned qemu = rnd(2);

    while (!model.taken[k] && model.ntaken == model.most)
        k = (k + 1) % STATES_MAX;
    if (i % 2 == 0) {
        uint64_t off = rnd(DISK_SIZE / 512) * 512ull;
        uint64_t len = min_u64((1 + rnd(rnd(4) ? 16 : 600)) * 512ull, DISK_SIZE - off);
        unsigned byte = 1 + rnd(255);

        memset(model.disk + off, (int)byte, len);
        write_by(qemu, byte, off, len);
    } else if (!model.taken[k]) {
        memcpy(model.states[k], model.disk, DISK_SIZE);
        model.taken[k] = true;
        model.ntaken++;
        change_by(qemu, 'c', names[k]);
    } else if (rnd(2)) {
        memcpy(model.disk, model.states[k], DISK_SIZE);
        /* QEMU counts up before it counts down. */
        change_by(qemu && model.ntaken < model.most, 'a', names[k]);
    } else {
        model.taken[k] = false;
        model.ntaken--;
        change_by(qemu, 'd', names[k]);
    }
}

START_TEST(snapshots_of_both_programs_mix)
{
    seed = base_seed + (unsigned)_i;
    memset(&model, 0, sizeof(model));
    /* Two bits count to three: the disk and two snapshots. */
    model.most = strstr(images[_i], "refcount_bits=2") ? 2 : STATES_MAX;
    scratch_ok("qemu-img create -q -f qcow2 -o %s image 2M", images[_i]);
    for (unsigned i = 0; i < 24; i++) {
        step(i);
        image_assert_sound("image");
        image_assert_file_shows("image", model.disk, DISK_SIZE);
        if (i % 6 == 5)
            image_assert_qemu_agrees("image", model.disk, DISK_SIZE);
    }
}
END_TEST

START_TEST(list_says_what_qemu_wrote)
{
    struct block_snapshot *list;
    unsigned n;
    struct err err = {0};
    struct block *block;

    scratch_ok("qemu-img create -q -f qcow2 image 1M && qemu-img snapshot -c first image "
               "&& qemu-img snapshot -c '' image && qemu-img snapshot -c first image "
               "&& qemu-img snapshot -d first image && qemu-img resize -q image 3M "
               "&& qemu-img snapshot -c last image");
    block = open_image(true);
    ck_assert_msg(block_snapshot_list(block, &list, &n, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(list[0].id, "2");
    ck_assert_str_eq(list[0].name, "");
    ck_assert_str_eq(list[1].id, "3");
    ck_assert_str_eq(list[1].name, "first");
    ck_assert_str_eq(list[2].id, "4");
    ck_assert_str_eq(list[2].name, "last");
    ck_assert_uint_eq(list[1].len, 1 << 20);
    ck_assert_uint_eq(list[2].len, 3 << 20);
    ck_assert_int_lt(labs((long)time(NULL) - (long)list[2].date_sec), 60);
    ck_assert_uint_eq(list[2].vm_state_len, 0);
    block_snapshot_list_free(list, n);
}
END_TEST

START_TEST(qemu_lists_what_we_wrote)
{
    const struct block_snapshot snapshot = {.name = (char *)(uintptr_t) "with state",
                                            .date_sec = 1700000000,
                                            .date_nsec = 7,
                                            .vm_clock_ns = 3723004000000ull,
                                            .vm_state_len = 5 << 20,
                                            .icount = 77};
    struct block *block;
    struct err err = {0};

    scratch_ok("qemu-img create -q -f qcow2 image 1M");
    block = open_image(false);
    ck_assert_msg(block_snapshot_create(block, &snapshot, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    do_ok(create, "second");
    scratch_ok("TZ=UTC qemu-img snapshot -l image | tee list | grep -q "
               "'^1  *with state  *5 MiB 2023-11-14 22:13:20 01:02:03.004  *77$'");
    scratch_ok("grep -q '^2  *second  *0 B 2023-11-14 22:13:20 00:00:00.000' list");
}
END_TEST

/* ---- lengths --------------------------------------------------------------------------------- */

START_TEST(applying_restores_the_length)
{
    scratch_ok("qemu-img create -q -f qcow2 -o cluster_size=512 image 300k && "
               "qemu-io -c 'write -q -P 5 0 300k' image");
    do_ok(create, "small");
    scratch_ok("qemu-img resize -q image 2M && qemu-io -c 'write -q -P 6 0 2M' image");
    do_ok(create, "large");
    do_ok(block_snapshot_apply, "small");
    scratch_ok("qemu-img info --output=json image | grep -q 'virtual-size\": 307200' && "
               "qemu-io -r -c 'read -q -P 5 0 300k' image");
    do_ok(block_snapshot_apply, "large");
    scratch_ok("qemu-io -r -c 'read -q -P 6 0 2M' image");
    do_ok(block_snapshot_delete, "large");
    do_ok(block_snapshot_delete, "small");
    scratch_ok("qemu-io -r -c 'read -q -P 6 0 2M' image");
}
END_TEST

START_TEST(empty_disk_has_snapshots_too)
{
    scratch_ok("qemu-img create -q -f qcow2 image 0");
    do_ok(create, "nothing");
    scratch_ok("qemu-img resize -q image 1M");
    do_ok(block_snapshot_apply, "nothing");
    do_ok(block_snapshot_delete, "nothing");
}
END_TEST

START_TEST(deleted_snapshot_gives_its_space_back)
{
    scratch_ok("qemu-img create -q -f qcow2 image 20M && "
               "qemu-io -c 'write -q -P 5 0 20M' image");
    do_ok(create, "one");
    scratch_ok("qemu-io -c 'write -q -P 6 0 20M' image && sync image && "
               "test $(stat -c %%b image) -gt 80000");
    do_ok(block_snapshot_delete, "one");
    scratch_ok("qemu-io -r -c 'read -q -P 6 0 20M' image && "
               "test $(stat -c %%b image) -lt 50000");
}
END_TEST

/* ---- reading a snapshot ---------------------------------------------------------------------- */

START_TEST(snapshot_is_shown_without_applying_it)
{
    struct block *block;
    struct err err = {0};

    scratch_ok("qemu-img create -q -f qcow2 image 2M && qemu-io -c 'write -q -P 5 0 2M' image");
    do_ok(create, "five");
    write_by(0, 6, 0, DISK_SIZE);
    block = open_image(false);
    ck_assert_int_eq(block_snapshot_show(block, "five", &err), -EINVAL);
    ck_assert_int_eq(block_close(block), 0);

    block = open_image(true);
    ck_assert_int_eq(block_snapshot_show(block, "six", &err), -ENOENT);
    ck_assert_int_eq(block_snapshot_show(block, "five", &err), 0);
    ck_assert_int_eq(mem_block_read(block, 0, buf, DISK_SIZE), 0);
    ck_assert(buf[0] == 5 && memcmp(buf, buf + 1, DISK_SIZE - 1) == 0);
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("qemu-img convert -l five -O raw image out && cmp -n 2097152 out out && "
               "qemu-io -r -f raw -c 'read -q -P 5 0 2M' out");
}
END_TEST

/* ---- VM state -------------------------------------------------------------------------------- */

START_TEST(vm_state_is_kept_with_its_snapshot)
{
    struct block_snapshot snapshot = {.name = (char *)(uintptr_t) "vm", .vm_state_len = 700000};
    uint8_t *state = malloc(700416);
    uint8_t *back = malloc(700416);
    struct err err = {0};
    struct block *block;

    ck_assert(state && back);
    for (size_t i = 0; i < 700416; i++)
        state[i] = (uint8_t)(i * 7 >> 8);
    scratch_ok(
        "qemu-img create -q -f qcow2 -o %s image 2M && qemu-io -c 'write -q -P 5 0 1M' image",
        images[_i]);
    block = open_image(false);
    /* In pieces that end inside clusters. */
    for (size_t at = 0; at < 700416; at += 100352)
        ck_assert_int_eq(block_vmstate_write(block, at, state + at, min_u64(100352, 700416 - at)),
                         0);
    ck_assert_int_eq(block_vmstate_read(block, 0, back, 700416), 0);
    ck_assert_int_eq(memcmp(state, back, 700416), 0);
    ck_assert_msg(block_snapshot_create(block, &snapshot, &err) == 0, "%s", err.msg);
    /* It is out of the image: nothing is there, or it reads as zero. */
    if (block_vmstate_read(block, 0, back, 512) == 0)
        ck_assert_int_eq(back[300], 0);
    memset(back, 9, 1024);
    ck_assert_int_eq(block_vmstate_write(block, 0, back, 1024), 0);
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("qemu-img check -q image && qemu-img snapshot -l image | grep -q ' 684 KiB '");

    do_ok(block_snapshot_apply, "vm");
    block = open_image(false);
    ck_assert_int_eq(block_vmstate_read(block, 0, back, 700416), 0);
    ck_assert_int_eq(memcmp(state, back, 700416), 0);
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("qemu-io -r -c 'read -q -P 5 0 1M' -c 'read -q -P 0 1M 1M' image");
    free(state);
    free(back);
}
END_TEST

START_TEST(vm_state_does_not_show_when_the_disk_grows)
{
    struct block_resize_options longer = {.len = 200 << 20};
    struct err err = {0};
    struct block *block;

    scratch_ok("qemu-img create -q -f qcow2 -o cluster_size=%s image 2M", _i ? "64k" : "512");
    memset(buf, 7, sizeof(buf));
    block = open_image(false);
    ck_assert_int_eq(block_vmstate_write(block, 0, buf, sizeof(buf)), 0);
    ck_assert_msg(block_resize(block, &longer, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    scratch_ok("qemu-img check -q image && qemu-io -r -c 'read -q -P 0 0 200M' image");
}
END_TEST

START_TEST(vm_state_outside_the_image_is_refused)
{
    struct block *block;

    scratch_ok("qemu-img create -q -f qcow2 image 2M");
    block = open_image(false);
    ck_assert_int_eq(block_vmstate_read(block, 0, buf, 512), -EINVAL);
    ck_assert_int_eq(block_vmstate_write(block, 100, buf, 512), -EINVAL);
    ck_assert_int_eq(block_vmstate_write(block, UINT64_MAX - 511, buf, 512), -EINVAL);
    ck_assert_int_eq(block_vmstate_write(block, 1ull << 52, buf, 512), -EFBIG);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/* ---- refused --------------------------------------------------------------------------------- */

START_TEST(too_narrow_counts_are_refused)
{
    struct err err = {0};

    scratch_ok("qemu-img create -q -f qcow2 -o refcount_bits=1,cluster_size=4k image 2M && "
               "qemu-io -c 'write -q -P 5 0 64k' image && cp image before");
    ck_assert_int_eq(try(create, "one", &err), -EINVAL);
    ck_assert_msg(strstr(err.msg, "1 bits"), "%s", err.msg);
    scratch_ok("qemu-io -r -c 'read -q -P 5 0 64k' image");
    ck_assert_int_ne(scratch_shell("qemu-img snapshot -c one image 2> /dev/null"), 0);
}
END_TEST

START_TEST(what_is_not_there_is_not_found)
{
    static change_fn *const changes[] = {block_snapshot_apply, block_snapshot_delete};
    struct err err = {0};

    scratch_ok("qemu-img create -q -f qcow2 image 2M");
    do_ok(create, "one");
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        ck_assert_int_eq(try(changes[i], "two", &err), -ENOENT);
        ck_assert_msg(strstr(err.msg, "snapshot 'two' not found"), "%s", err.msg);
    }
}
END_TEST

START_TEST(ids_and_names_are_told_apart_as_qemu_does)
{
    scratch_ok("qemu-img create -q -f qcow2 image 2M && qemu-io -c 'write -q -P 1 0 64k' image");
    do_ok(create, "2");
    write_by(0, 2, 0, 65536);
    do_ok(create, "1");
    scratch_ok("cp image copy");
    /* An id before a name to be applied, a name before an id to be deleted. */
    do_ok(block_snapshot_apply, "1");
    scratch_ok("qemu-img snapshot -a 1 copy && qemu-io -r -c 'read -q -P 1 0 64k' copy && "
               "qemu-io -r -c 'read -q -P 1 0 64k' image");
    do_ok(block_snapshot_delete, "1");
    scratch_ok("qemu-img snapshot -d 1 copy && qemu-img snapshot -l copy > a && "
               "qemu-img snapshot -l image > b && cmp a b");
}
END_TEST

/* The second of two is left, and has number 2. */
START_TEST(ids_are_not_given_twice)
{
    struct block_snapshot *list;
    struct block *block;
    unsigned n;

    scratch_ok("qemu-img create -q -f qcow2 image 2M");
    do_ok(create, "one");
    do_ok(create, "two");
    do_ok(block_snapshot_delete, "one");
    do_ok(create, "three");
    block = open_image(true);
    ck_assert_int_eq(block_snapshot_list(block, &list, &n, NULL), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_ne(list[0].id, list[1].id);
    block_snapshot_list_free(list, n);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(images_without_snapshots_say_so)
{
    struct block_snapshot *list;
    struct block *block;
    struct err err = {0};
    unsigned n;

    scratch_ok("truncate -s 1M image");
    block = image_open("image", BLOCK_FORMAT_RAW, false);
    ck_assert_int_eq(block_snapshot_list(block, &list, &n, &err), -ENOTSUP);
    ck_assert_int_eq(create(block, "one", &err), -ENOTSUP);
    ck_assert_int_eq(block_vmstate_write(block, 0, buf, 512), -ENOTSUP);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("both");

    base_seed = unit_seed();
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, snapshots_of_both_programs_mix, 0, ARRAY_SIZE(images));
    tcase_add_loop_test(tcase, vm_state_is_kept_with_its_snapshot, 0, ARRAY_SIZE(images));
    tcase_add_loop_test(tcase, vm_state_does_not_show_when_the_disk_grows, 0, 2);
    suite_add_tcase(suite, tcase);
    unit_case_with(suite, "snapshots", scratch_set_up, scratch_tear_down, list_says_what_qemu_wrote,
                   qemu_lists_what_we_wrote, applying_restores_the_length,
                   empty_disk_has_snapshots_too, deleted_snapshot_gives_its_space_back,
                   snapshot_is_shown_without_applying_it, vm_state_outside_the_image_is_refused,
                   too_narrow_counts_are_refused, what_is_not_there_is_not_found,
                   ids_and_names_are_told_apart_as_qemu_does, ids_are_not_given_twice,
                   images_without_snapshots_say_so);
}

UNIT_MAIN_BESIDE_QEMU("block_snapshot", add_tests)
