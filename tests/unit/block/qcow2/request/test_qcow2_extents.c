/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests whose data lies in several places of the host: the parts are in flight together.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define CLUSTER 4096u
#define CLUSTERS 8u
#define DISK_SIZE (2u << 20)

static struct mem_env env;
static struct mem_disk disks[2];
static struct loop *loop;
static uint8_t data[CLUSTERS * CLUSTER];
static int result;

static void fill(struct block *to, unsigned cluster, int value)
{
    uint8_t buf[CLUSTER];

    memset(buf, value, sizeof(buf));
    ck_assert_int_eq(mem_block_write(to, (uint64_t)cluster * CLUSTER, buf, sizeof(buf)), 0);
}

static void add_image(unsigned i, const char *name, const char *backing)
{
    mem_disk_init(&disks[i], name);
    qcow2_image_make(&disks[i], &(struct qcow2_image_options){.cluster_bits = 12,
                                                              .refcount_order = 4,
                                                              .size = DISK_SIZE,
                                                              .backing = backing,
                                                              .backing_format = "qcow2"});
    mem_env_add(&env, &disks[i]);
}

/* Every other cluster is in the base; they lie in the files from back to front. */
static void setup(void)
{
    struct block *base;
    struct block *top;

    mem_env_init(&env);
    add_image(0, "base", NULL);
    add_image(1, "top", "base");
    base = mem_env_open(&env, "base", BLOCK_FORMAT_QCOW2, false);
    for (unsigned i = CLUSTERS; i-- > 0;)
        fill(base, i, (int)(0x10 + i));
    ck_assert_int_eq(block_close(base), 0);
    top = mem_env_open(&env, "top", BLOCK_FORMAT_QCOW2, false);
    for (unsigned i = CLUSTERS; i-- > 0;)
        if (i % 2 == 0)
            fill(top, i, (int)(0x20 + i));
    ck_assert_int_eq(block_close(top), 0);
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void teardown(void)
{
    loop_free(loop);
    mem_disk_done(&disks[0]);
    mem_disk_done(&disks[1]);
}

static void done(struct block_req *req, int r)
{
    result = r;
}

/* One request for all clusters of an image, with its metadata in memory. */
static void run(const char *name, enum block_op op, struct mem_fault *fault)
{
    struct iovec iov[3] = {{data, 1000}, {data + 1000, 9000}, {data + 10000, sizeof(data) - 10000}};
    struct block_req req = {.op = op, .len = sizeof(data), .iov = iov, .niov = 3, .done = done};
    struct err err = {0};
    struct block *block = mem_env_open(&env, name, BLOCK_FORMAT_QCOW2, false);
    uint8_t sector[BLOCK_SECTOR_SIZE];

    ck_assert_int_eq(mem_block_read(block, 0, sector, sizeof(sector)), 0);
    for (unsigned i = 0; i < 2; i++) {
        disks[i].shuffle = true;
        disks[i].max_pending = 0;
    }
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    result = 1;
    disks[0].fault = fault;
    block_submit(block, &req);
    ck_assert_int_eq(block_detach(block), 0);
    ck_assert_int_eq(block_close(block), 0);
}

START_TEST(parts_are_read_together)
{
    run("base", BLOCK_READ, NULL);
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(disks[0].max_pending, CLUSTERS);
    for (unsigned i = 0; i < sizeof(data); i++)
        ck_assert_uint_eq(data[i], 0x10 + i / CLUSTER);
}
END_TEST

START_TEST(parts_of_several_layers_are_read_together)
{
    run("top", BLOCK_READ, NULL);
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(disks[0].max_pending, CLUSTERS / 2);
    ck_assert_uint_eq(disks[1].max_pending, CLUSTERS / 2);
    for (unsigned i = 0; i < sizeof(data); i++)
        ck_assert_uint_eq(data[i], (i / CLUSTER % 2 ? 0x10 : 0x20) + i / CLUSTER);
}
END_TEST

START_TEST(parts_are_written_together)
{
    static uint8_t expect[sizeof(data)];

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = expect[i] = (uint8_t)(i / 100);
    run("base", BLOCK_WRITE, NULL);
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(disks[0].max_pending, CLUSTERS);
    memset(data, 0, sizeof(data));
    run("base", BLOCK_READ, NULL);
    ck_assert_mem_eq(data, expect, sizeof(data));
}
END_TEST

START_TEST(failure_of_any_part_is_the_failure_of_the_request)
{
    struct mem_fault fault = {.after = _i, .result = -EIO, .kinds = 1u << FILE_READ};

    run("base", BLOCK_READ, &fault);
    ck_assert(fault.happened);
    ck_assert_int_eq(result, -EIO);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("parts");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, parts_are_read_together);
    tcase_add_test(tcase, parts_of_several_layers_are_read_together);
    tcase_add_test(tcase, parts_are_written_together);
    tcase_add_loop_test(tcase, failure_of_any_part_is_the_failure_of_the_request, 0, CLUSTERS);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("qcow2_extents", add_tests)
