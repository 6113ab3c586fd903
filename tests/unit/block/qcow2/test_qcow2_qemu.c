/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The qcow2 engine beside QEMU's: images made by one and used by the other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define DISK_SIZE (4u << 20)

static unsigned base_seed;
static unsigned seed;
static uint8_t model[DISK_SIZE];

static unsigned rnd(unsigned below)
{
    return (unsigned)rand_r(&seed) % below;
}

static void set_up(void)
{
    scratch_set_up();
    seed = base_seed;
}

static struct block *open_image(bool readonly)
{
    return image_open("image", BLOCK_FORMAT_PROBE, readonly);
}

static void assert_reads_as_model(void)
{
    image_assert_file_shows("image", model, DISK_SIZE);
}

/* QEMU sees no fault, and the same contents. */
static void assert_qemu_agrees(void)
{
    image_assert_qemu_agrees("image", model, DISK_SIZE);
}

static void pick(uint64_t *ret_off, uint64_t *ret_len)
{
    *ret_off = rnd(DISK_SIZE / 512) * 512ull;
    *ret_len = min_u64((1 + rnd(rnd(4) ? 64 : 1000)) * 512ull, DISK_SIZE - *ret_off);
}

static void write_some(unsigned n)
{
    struct block *block = open_image(false);

    for (unsigned i = 0; i < n; i++) {
        uint64_t off;
        uint64_t len;

        pick(&off, &len);
        if (rnd(4)) {
            memset(model + off, 1 + (int)rnd(255), len);
            ck_assert_int_eq(mem_block_write(block, off, model + off, len), 0);
        } else {
            memset(model + off, 0, len);
            ck_assert_int_eq(
                mem_block_op(block, BLOCK_WRITE_ZEROES, rnd(2) ? BLOCK_REQ_UNMAP : 0, off, len), 0);
        }
    }
    ck_assert_int_eq(block_close(block), 0);
}

/* The same by qemu-io, in one run. */
static void qemu_write_some(unsigned n)
{
    static char commands[4096];
    int at = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned byte = 1 + rnd(255);
        uint64_t off;
        uint64_t len;

        pick(&off, &len);
        if (rnd(4)) {
            memset(model + off, (int)byte, len);
            at += snprintf(commands + at, sizeof(commands) - (size_t)at,
                           " -c 'write -P %u %llu %llu'", byte, (unsigned long long)off,
                           (unsigned long long)len);
        } else {
            memset(model + off, 0, len);
            at += snprintf(commands + at, sizeof(commands) - (size_t)at,
                           " -c 'write -z %s %llu %llu'", rnd(2) ? "-u" : "",
                           (unsigned long long)off, (unsigned long long)len);
        }
    }
    scratch_ok("qemu-io -t unsafe -f qcow2%s image > /dev/null", commands);
}

/* ---- handing images back and forth ----------------------------------------------------------- */

static const char *const variants[] = {
    "cluster_size=64k",
    "cluster_size=512",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=4k,refcount_bits=1",
    "cluster_size=64k,refcount_bits=2",
    "cluster_size=2M,refcount_bits=8",
    "cluster_size=64k,compat=0.10",
    "cluster_size=64k,lazy_refcounts=on",
    "cluster_size=64k,preallocation=metadata",
    "cluster_size=64k,compression_type=zstd",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "extended_l2=on,cluster_size=2M,refcount_bits=1",
    "extended_l2=on,preallocation=metadata",
    "data_file=data",
    "data_file=data,data_file_raw=on",
    "data_file=data,extended_l2=on,cluster_size=128k",
};

START_TEST(image_is_handed_back_and_forth)
{
    printf("%s: seed %u\n", variants[_i], seed);
    scratch_ok("qemu-img create -q -f qcow2 -o %s image 4M", variants[_i]);
    for (int round = 0; round < 3; round++) {
        write_some(30);
        assert_qemu_agrees();
        qemu_write_some(15);
        assert_reads_as_model();
    }
}
END_TEST

static void make_base(const char *format)
{
    for (unsigned i = 0; i < DISK_SIZE; i++)
        model[i] = (uint8_t)(rnd(8) ? i >> 14 : rnd(256));
    memset(model + (1 << 20), 0, 1 << 20);
    scratch_save("model", model, DISK_SIZE);
    scratch_ok("qemu-img convert -f raw -O %s model base", format);
}

static const struct base {
    const char *convert;
    const char *format;
    const char *options; /* of the overlay */
} bases[] = {
    {"raw", "raw", "extended_l2=on,cluster_size=32k"},
    {"qcow2 -c", "qcow2", "extended_l2=on"},
    {"qcow2 -o extended_l2=on", "qcow2", "data_file=data"},
    {"raw", "raw", "compat=v3"},
    {"qcow2 -o cluster_size=4k", "qcow2", "compat=v3"},
    {"qcow2 -c", "qcow2", "compat=v3"},
    {"qcow2 -c -o compression_type=zstd", "qcow2", "compat=v3"},
};

START_TEST(overlays_copy_what_they_do_not_write)
{
    make_base(bases[_i].convert);
    scratch_ok("qemu-img create -q -f qcow2 -b base -F %s -o %s image", bases[_i].format,
               bases[_i].options);
    assert_reads_as_model();
    for (int round = 0; round < 2; round++) {
        write_some(30);
        assert_qemu_agrees();
        qemu_write_some(10);
        assert_reads_as_model();
    }
}
END_TEST

START_TEST(compressed_images_are_read_and_overwritten)
{
    static const char *const options[] = {"", "-o compression_type=zstd", "-o cluster_size=4k",
                                          "-o cluster_size=2M",
                                          "-o compression_type=zstd,cluster_size=2M"};

    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        make_base("raw");
        scratch_ok("qemu-img convert -f raw -O qcow2 -c %s model image", options[i]);
        assert_reads_as_model();
        write_some(30);
        assert_qemu_agrees();
    }
}
END_TEST

START_TEST(snapshots_keep_what_was_there)
{
    static uint8_t before[DISK_SIZE];

    scratch_ok("qemu-img create -q -f qcow2 -o %s image 4M",
               _i ? "cluster_size=1k" : "cluster_size=64k");
    write_some(40);
    memcpy(before, model, DISK_SIZE);
    scratch_ok("qemu-img snapshot -c one image");
    write_some(40);
    assert_qemu_agrees();
    scratch_ok("qemu-img snapshot -c two image");
    write_some(20);
    assert_qemu_agrees();
    scratch_ok("qemu-img snapshot -d two image");
    write_some(20);
    assert_qemu_agrees();
    scratch_ok("qemu-img snapshot -a one image");
    memcpy(model, before, DISK_SIZE);
    assert_reads_as_model();
    write_some(20);
    assert_qemu_agrees();
}
END_TEST

/* ---- locks ----------------------------------------------------------------------------------- */

START_TEST(qemu_and_we_keep_each_other_out)
{
    struct block_options options = {.path = scratch_path("image")};
    struct block *block;
    struct err err = {0};
    int r;

    scratch_ok("qemu-img create -q -f qcow2 image 4M");
    block = open_image(false);
    ck_assert_int_ne(scratch_shell("qemu-img info image > /dev/null 2>&1"), 0);
    ck_assert_int_ne(scratch_shell("qemu-io -c 'write 0 512' image > /dev/null 2>&1"), 0);
    scratch_ok("qemu-img info -U image > /dev/null");
    ck_assert_int_eq(block_close(block), 0);

    block = open_image(true);
    scratch_ok("qemu-img info image > /dev/null");
    ck_assert_int_ne(scratch_shell("qemu-io -c 'write 0 512' image > /dev/null 2>&1"), 0);
    ck_assert_int_eq(block_close(block), 0);

    /* It says when it has the image open. */
    scratch_ok("mkfifo go; (echo 'read 0 512'; cat go) | qemu-io image > out 2>&1 &");
    scratch_ok("until grep -q 'read 512' out; do sleep 0.05; done");
    r = block_open(&options, &block, &err);
    options.readonly = true;
    if (r == -EAGAIN)
        r = block_open(&options, &block, &err);
    scratch_ok("echo q > go; wait");
    ck_assert_int_eq(r, -EAGAIN);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("qemu");

    base_seed = unit_seed();
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, image_is_handed_back_and_forth, 0, ARRAY_SIZE(variants));
    tcase_add_loop_test(tcase, overlays_copy_what_they_do_not_write, 0, ARRAY_SIZE(bases));
    tcase_add_test(tcase, compressed_images_are_read_and_overwritten);
    tcase_add_loop_test(tcase, snapshots_keep_what_was_there, 0, 2);
    tcase_add_test(tcase, qemu_and_we_keep_each_other_out);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN_BESIDE_QEMU("qcow2_qemu", add_tests)
