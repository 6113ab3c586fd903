/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discards of parts of a cluster: its space goes back to the host when the last part goes, and not
 * if something was written meanwhile.
 */
#include <string.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define CLUSTER 65536u
#define PIECE 4096u
#define DISK_LEN ((4ull << 20) + 3ull * PIECE)

static struct mem_env env;
static struct mem_disk disk;
static struct block *block;
static uint8_t data[CLUSTER];

static void setup(void)
{
    mem_env_init(&env);
    mem_disk_init(&disk, "disk");
    mem_env_add(&env, &disk);
    qcow2_image_make(&disk, &(struct qcow2_image_options){.refcount_order = 4, .size = DISK_LEN});
    block = mem_env_open(&env, "disk", BLOCK_FORMAT_QCOW2, false);
    memset(data, 0x77, sizeof(data));
}

static void teardown(void)
{
    struct qcow2_image_check check;

    ck_assert_int_eq(block_close(block), 0);
    qcow2_image_check(&disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s, %u leaks", check.first, check.leaks);
    mem_disk_done(&disk);
}

static void write_at(uint64_t off, uint64_t len)
{
    ck_assert_int_eq(mem_block_write(block, off, data, len), 0);
}

static void discard(uint64_t off, uint64_t len)
{
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, off, len), 0);
}

static bool is_mapped(uint64_t off)
{
    struct block_status status;

    ck_assert_int_eq(block_get_status(block, off, PIECE, true, &status), 0);
    return status.flags & BLOCK_STATUS_ALLOCATED;
}

/* In an order of its own, but for the piece `skip`. */
static void discard_pieces(uint64_t cluster_off, unsigned skip)
{
    for (unsigned i = 0; i < CLUSTER / PIECE; i++) {
        unsigned piece = i * 7 % (CLUSTER / PIECE);

        if (piece != skip)
            discard(cluster_off + (uint64_t)piece * PIECE, PIECE);
    }
}

START_TEST(last_part_takes_the_cluster_along)
{
    write_at(CLUSTER, CLUSTER);
    discard_pieces(CLUSTER, 5);
    ck_assert(is_mapped(CLUSTER));
    discard(CLUSTER + 5ull * PIECE, PIECE);
    ck_assert(!is_mapped(CLUSTER));
}
END_TEST

START_TEST(what_is_written_meanwhile_stays)
{
    uint8_t buf[512];

    write_at(0, CLUSTER);
    discard_pieces(0, 5);
    write_at(512, 512);
    discard(5ull * PIECE, PIECE);
    ck_assert(is_mapped(0));
    ck_assert_int_eq(mem_block_read(block, 512, buf, sizeof(buf)), 0);
    ck_assert_mem_eq(buf, data, sizeof(buf));
    discard(0, PIECE);
    ck_assert(!is_mapped(0));
}
END_TEST

/* Half a part is none: nobody may lose the other half. */
START_TEST(parts_count_as_a_whole_only)
{
    write_at(0, CLUSTER);
    discard_pieces(0, 5);
    discard(5ull * PIECE, PIECE - 512);
    ck_assert(is_mapped(0));
    discard(6ull * PIECE - 512, 512);
    ck_assert(is_mapped(0));
    discard(5ull * PIECE, PIECE);
    ck_assert(!is_mapped(0));
}
END_TEST

START_TEST(end_of_the_disk_completes_its_cluster)
{
    uint64_t last = DISK_LEN - 3ull * PIECE;

    write_at(last, 3ull * PIECE);
    discard(last + PIECE, 2ull * PIECE);
    ck_assert(is_mapped(last));
    discard(last, PIECE);
    ck_assert(!is_mapped(last));
}
END_TEST

START_TEST(two_ends_of_one_request_reach_into_two_clusters)
{
    write_at(0, CLUSTER);
    write_at(CLUSTER, CLUSTER);
    discard(0, CLUSTER / 2);
    discard(CLUSTER + CLUSTER / 2, CLUSTER / 2);
    discard(CLUSTER / 2, CLUSTER);
    ck_assert(!is_mapped(0));
    ck_assert(!is_mapped(CLUSTER));
}
END_TEST

/* What a snapshot brings back was never discarded. */
START_TEST(a_change_of_the_whole_disk_forgets_them)
{
    char name[] = "s";
    const struct block_snapshot snapshot = {.name = name};
    struct err err = {0};

    write_at(0, CLUSTER);
    ck_assert_int_eq(block_snapshot_create(block, &snapshot, &err), 0);
    discard(0, CLUSTER / 2);
    ck_assert_int_eq(block_snapshot_apply(block, "s", &err), 0);
    discard(CLUSTER / 2, CLUSTER / 2);
    ck_assert(is_mapped(0));
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "parts", setup, teardown, last_part_takes_the_cluster_along,
                   what_is_written_meanwhile_stays, parts_count_as_a_whole_only,
                   end_of_the_disk_completes_its_cluster,
                   two_ends_of_one_request_reach_into_two_clusters,
                   a_change_of_the_whole_disk_forgets_them);
}

UNIT_MAIN("qcow2_discard", add_tests)
