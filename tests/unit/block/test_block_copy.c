/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data that the host copies from another file: it goes where a write would put it, or nowhere.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define CLUSTER 4096u
#define DISK_SIZE (1u << 20)
#define MAX_OPERATIONS 200

static struct mem_env env;
static struct mem_disk raw_disk;
static struct mem_disk disk;
static struct mem_disk base_disk;
static struct mem_fault fault;
static struct block *raw;
static struct block *image;
static uint8_t buf[DISK_SIZE];

static void make_image(struct mem_disk *to, const char *name,
                       const struct qcow2_image_options *options)
{
    mem_disk_init(to, name);
    qcow2_image_make(to, options);
    mem_env_add(&env, to);
}

/* A raw image of which each sector is different, and a qcow2 image that is `options`, over ones. */
static void open_images(struct qcow2_image_options options)
{
    struct block *base;

    mem_env_init(&env);
    mem_disk_init(&raw_disk, "raw");
    raw_disk.len = DISK_SIZE;
    for (unsigned i = 0; i < DISK_SIZE; i++)
        raw_disk.data[i] = (uint8_t)(i % 251 + i / BLOCK_SECTOR_SIZE);
    mem_env_add(&env, &raw_disk);
    options.size = DISK_SIZE;
    make_image(&disk, "image", &options);
    options =
        (struct qcow2_image_options){.cluster_bits = 12, .refcount_order = 4, .size = DISK_SIZE};
    make_image(&base_disk, "base", &options);
    base = mem_env_open(&env, "base", BLOCK_FORMAT_QCOW2, false);
    memset(buf, 1, sizeof(buf));
    ck_assert_int_eq(mem_block_write(base, 0, buf, sizeof(buf)), 0);
    ck_assert_int_eq(block_close(base), 0);
    fault = (struct mem_fault){.after = -1};
    disk.fault = &fault;
    raw = mem_env_open(&env, "raw", BLOCK_FORMAT_RAW, true);
    image = mem_env_open(&env, "image", BLOCK_FORMAT_QCOW2, false);
}

static const struct qcow2_image_options overlay = {
    .cluster_bits = 12, .refcount_order = 4, .backing = "base", .backing_format = "qcow2"};

static void setup(void)
{
    open_images(overlay);
}

static void check_image(void)
{
    struct qcow2_image_check check;

    qcow2_image_check(&disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%u errors, %u leaks: %s", check.errors,
                  check.leaks, check.first);
}

static void teardown(void)
{
    fault.after = -1;
    ck_assert_int_eq(block_close(image), 0);
    ck_assert_int_eq(block_close(raw), 0);
    check_image();
    mem_disk_done(&raw_disk);
    mem_disk_done(&disk);
    mem_disk_done(&base_disk);
}

static int copy(uint64_t off, uint64_t len, struct block *from, uint64_t from_host)
{
    struct block_req req = {
        .op = BLOCK_COPY, .off = off, .len = len, .from = from, .from_host = from_host};

    return block_execute(image, &req);
}

static void assert_shows(uint64_t off, uint64_t len, const uint8_t *expected)
{
    ck_assert_int_eq(mem_block_read(image, off, buf, len), 0);
    ck_assert_mem_eq(buf, expected, len);
}

static void assert_shows_base(uint64_t off, uint64_t len)
{
    ck_assert_int_eq(mem_block_read(image, off, buf, len), 0);
    for (uint64_t i = 0; i < len; i++)
        ck_assert_uint_eq(buf[i], 1);
}

/* ---- where it goes --------------------------------------------------------------------------- */

START_TEST(new_clusters_get_data_that_no_buffer_held)
{
    const struct block_stats *stats = block_get_stats(image);

    ck_assert_int_eq(copy(2ull * CLUSTER, 5ull * CLUSTER, raw, 3ull * CLUSTER), 0);
    assert_shows(2ull * CLUSTER, 5ull * CLUSTER, raw_disk.data + 3ull * CLUSTER);
    assert_shows_base(0, 2ull * CLUSTER);
    assert_shows_base(7ull * CLUSTER, CLUSTER);
    ck_assert_uint_eq(stats->data_writes, 0);
    ck_assert_uint_eq(stats->data_copy_bytes, 5ull * CLUSTER);
    ck_assert_uint_ge(disk.counts[FILE_COPY], 1);
}
END_TEST

START_TEST(clusters_in_use_are_overwritten_in_place)
{
    uint64_t len;

    ck_assert_int_eq(copy(0, 4ull * CLUSTER, raw, 0), 0);
    len = disk.len;
    ck_assert_int_eq(copy(CLUSTER, 2ull * CLUSTER, raw, 8ull * CLUSTER), 0);
    ck_assert_uint_eq(disk.len, len);
    assert_shows(0, CLUSTER, raw_disk.data);
    assert_shows(CLUSTER, 2ull * CLUSTER, raw_disk.data + 8ull * CLUSTER);
    assert_shows(3ull * CLUSTER, CLUSTER, raw_disk.data + 3ull * CLUSTER);
}
END_TEST

START_TEST(old_and_new_clusters_in_one_request)
{
    memset(buf, 7, CLUSTER);
    ck_assert_int_eq(mem_block_write(image, 2ull * CLUSTER, buf, CLUSTER), 0);
    ck_assert_int_eq(mem_block_op(image, BLOCK_WRITE_ZEROES, 0, 4ull * CLUSTER, CLUSTER), 0);
    ck_assert_int_eq(copy(0, 6ull * CLUSTER, raw, CLUSTER), 0);
    assert_shows(0, 6ull * CLUSTER, raw_disk.data + CLUSTER);
}
END_TEST

START_TEST(data_of_a_qcow2_image_is_copied_from_where_it_is)
{
    struct block_status status;
    struct block *base = mem_env_open(&env, "base", BLOCK_FORMAT_QCOW2, true);

    ck_assert_int_eq(block_get_status(base, CLUSTER, CLUSTER, false, &status), 0);
    ck_assert_int_eq(copy(0, CLUSTER, raw, 0), 0);
    ck_assert_int_eq(copy(0, CLUSTER, status.layer, status.host), 0);
    assert_shows_base(0, CLUSTER);
    ck_assert_int_eq(block_close(base), 0);
}
END_TEST

START_TEST(subclusters_are_units)
{
    teardown();
    open_images((struct qcow2_image_options){.cluster_bits = 16,
                                             .refcount_order = 4,
                                             .extended_l2 = true,
                                             .backing = "base",
                                             .backing_format = "qcow2"});
    ck_assert_int_eq(copy(6144, 4096, raw, 0), 0);
    assert_shows(6144, 4096, raw_disk.data);
    assert_shows_base(0, 6144);
    assert_shows_base(10240, 4096);
}
END_TEST

/* ---- what cannot be done --------------------------------------------------------------------- */

START_TEST(parts_of_clusters_are_refused)
{
    static const struct {
        uint64_t off;
        uint64_t len;
    } cases[] = {{512, CLUSTER}, {0, 512}, {0, CLUSTER + 512}, {CLUSTER - 512, CLUSTER + 512}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_int_eq(copy(cases[i].off, cases[i].len, raw, 0), -EOPNOTSUPP);
    assert_shows_base(0, 3ull * CLUSTER);
}
END_TEST

START_TEST(what_the_host_refuses_can_be_written)
{
    static const int refusals[] = {-EXDEV, -EINVAL, -EOPNOTSUPP, -ENOSYS};

    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        fault = (struct mem_fault){.result = refusals[i], .kinds = 1u << FILE_COPY};
        ck_assert_int_eq(copy(0, CLUSTER, raw, 0), -EOPNOTSUPP);
    }
    assert_shows_base(0, CLUSTER);
    ck_assert_int_eq(mem_block_write(image, 0, raw_disk.data, CLUSTER), 0);
    assert_shows(0, CLUSTER, raw_disk.data);
}
END_TEST

START_TEST(short_copies_are_continued)
{
    fault = (struct mem_fault){.is_short = true};
    ck_assert_int_eq(copy(0, 4ull * CLUSTER, raw, 0), 0);
    ck_assert(fault.happened);
    assert_shows(0, 4ull * CLUSTER, raw_disk.data);
}
END_TEST

START_TEST(a_file_that_ends_early_is_not_made_up)
{
    raw_disk.len = CLUSTER + 100;
    ck_assert_int_eq(copy(0, 2ull * CLUSTER, raw, 0), -EOPNOTSUPP);
    assert_shows_base(0, 2ull * CLUSTER);
}
END_TEST

/* Whatever fails, the range shows the old or the new, and no cluster is lost. */
START_TEST(any_operation_fails)
{
    bool happened = true;
    int n = 0;

    for (; happened && n < MAX_OPERATIONS; n++) {
        int r;

        /* Not the barrier at first: after that nothing could be flushed any more. */
        fault = (struct mem_fault){.after = n, .kinds = ~(1u << FILE_SYNC), .result = -EIO};
        r = copy(0, 3ull * CLUSTER, raw, 0);
        happened = fault.happened;
        fault.after = -1;
        if (r < 0)
            assert_shows_base(0, 3ull * CLUSTER);
        else
            assert_shows(0, 3ull * CLUSTER, raw_disk.data);
        teardown();
        setup();
    }
    ck_assert_int_gt(n, 3);
    ck_assert_int_lt(n, MAX_OPERATIONS);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "copy", setup, teardown, new_clusters_get_data_that_no_buffer_held,
                   clusters_in_use_are_overwritten_in_place, old_and_new_clusters_in_one_request,
                   data_of_a_qcow2_image_is_copied_from_where_it_is, subclusters_are_units,
                   parts_of_clusters_are_refused, what_the_host_refuses_can_be_written,
                   short_copies_are_continued, a_file_that_ends_early_is_not_made_up,
                   any_operation_fails);
}

UNIT_MAIN("block_copy", add_tests)
