/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains as long as they may be: every layer is read through all those above it, and a hostile one
 * takes no more memory than it should.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "block/block.h"
#include "block/driver.h"
#include "block/qcow2/format/header.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define CLUSTER (64u << 10)
#define DISK_LEN ((uint64_t)BLOCK_CHAIN_MAX * CLUSTER)
#define L1_BYTES (32u << 20)

/* Sanitizers have memory of their own for each byte that is allocated. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_IS_MEASURED false
#else
#define MEMORY_IS_MEASURED true
#endif

/* ---- good chains ----------------------------------------------------------------------------- */

static const char *name_of(unsigned layer)
{
    static char names[4][16];
    static unsigned next;
    char *name = names[next++ % ARRAY_SIZE(names)];

    snprintf(name, sizeof(names[0]), "layer%u", layer);
    return name;
}

/* The byte that layer `i` fills cluster `i` with. */
static uint8_t byte_of(unsigned i)
{
    return (uint8_t)(i + 1);
}

static void fill_cluster(unsigned layer)
{
    static uint8_t data[CLUSTER];
    const struct iovec iov = {data, sizeof(data)};
    struct block *block = image_open(name_of(layer), BLOCK_FORMAT_QCOW2, false);
    struct block_req req = {.op = BLOCK_WRITE,
                            .flags = layer % 2 ? BLOCK_REQ_COMPRESSED : 0,
                            .off = (uint64_t)layer * CLUSTER,
                            .len = CLUSTER,
                            .iov = &iov,
                            .niov = 1};

    memset(data, byte_of(layer), sizeof(data));
    ck_assert_int_eq(block_execute(block, &req), 0);
    ck_assert_int_eq(block_close(block), 0);
}

/* Layer 0 is the top; layer `i` alone has cluster `i`. */
static void make_chain(unsigned n)
{
    for (unsigned i = n; i-- > 0;) {
        struct mem_disk disk;

        mem_disk_init(&disk, "image");
        qcow2_image_make(
            &disk, &(struct qcow2_image_options){.refcount_order = 4,
                                                 .size = DISK_LEN,
                                                 .backing = i + 1 < n ? name_of(i + 1) : NULL,
                                                 .backing_format = i + 1 < n ? "qcow2" : NULL});
        mem_disk_save(&disk, scratch_path(name_of(i)));
        mem_disk_done(&disk);
        if (n <= BLOCK_CHAIN_MAX)
            fill_cluster(i);
    }
}

static int failures;

static void note_result(struct block_req *req, int result)
{
    failures += result < 0;
}

/* Whole disk at once, then sector by sector with all requests in flight, each in a coroutine. */
START_TEST(every_layer_of_the_longest_chain_is_read)
{
    static struct block_req reqs[2 * BLOCK_CHAIN_MAX];
    static struct iovec iovs[ARRAY_SIZE(reqs)];
    static uint8_t sectors[ARRAY_SIZE(reqs)][BLOCK_SECTOR_SIZE];
    uint8_t *whole = malloc(DISK_LEN);
    struct iovec iov = {whole, DISK_LEN};
    struct block_req req = {
        .op = BLOCK_READ, .len = DISK_LEN, .iov = &iov, .niov = 1, .done = note_result};
    struct block *block;
    struct loop *loop;
    struct err err = {0};

    make_chain(BLOCK_CHAIN_MAX);
    block = image_open(name_of(0), BLOCK_FORMAT_QCOW2, true);
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    block_submit(block, &req);
    for (unsigned i = 0; i < ARRAY_SIZE(reqs); i++) {
        iovs[i] = (struct iovec){sectors[i], BLOCK_SECTOR_SIZE};
        reqs[i] = (struct block_req){.op = BLOCK_READ,
                                     .off = i * (uint64_t)(CLUSTER / 2) + BLOCK_SECTOR_SIZE,
                                     .len = BLOCK_SECTOR_SIZE,
                                     .iov = &iovs[i],
                                     .niov = 1,
                                     .done = note_result};
        block_submit(block, &reqs[i]);
    }
    ck_assert_int_eq(block_detach(block), 0);
    ck_assert_int_eq(failures, 0);
    for (unsigned i = 0; i < BLOCK_CHAIN_MAX; i++) {
        const uint8_t *cluster = whole + (size_t)i * CLUSTER;

        ck_assert_uint_eq(cluster[0], byte_of(i));
        ck_assert_mem_eq(cluster, cluster + 1, CLUSTER - 1);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(reqs); i++)
        ck_assert_uint_eq(sectors[i][100], byte_of(i / 2));
    ck_assert_int_eq(block_close(block), 0);
    loop_free(loop);
    free(whole);
}
END_TEST

START_TEST(one_image_more_is_refused)
{
    const struct block_options options = {.path = scratch_path(name_of(0)), .readonly = true};
    struct block *block;
    struct err err;

    make_chain(BLOCK_CHAIN_MAX + 1);
    ck_assert_int_eq(block_open(&options, &block, &err), -ELOOP);
    ck_assert_msg(strstr(err.msg, name_of(BLOCK_CHAIN_MAX - 1)), "%s", err.msg);
    ck_assert_msg(strstr(err.msg, "more than 64 images on top of each other"), "%s", err.msg);
}
END_TEST

/* ---- hostile chains -------------------------------------------------------------------------- */

/* How the L1 table of each image is filled: an entry in every so many bytes of the first `len`. */
struct filling {
    uint32_t len;
    uint32_t step;
};

/* Images of 128 GiB (all that small files claim) with an L1 table of 32 MiB, most of it holes. */
static void make_hostile(unsigned layer, bool last, const struct filling *filling)
{
    enum { L1_AT = 2 * CLUSTER };
    static uint8_t head[4096];
    static uint8_t entries[1u << 20];
    const char *below = name_of(layer + 1);
    int fd = open(scratch_path(name_of(layer)), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    memset(head, 0, sizeof(head));
    store_be32(head, 0x514649fb);
    store_be32(head + HDR_VERSION, 3);
    store_be32(head + HDR_CLUSTER_BITS, 16);
    store_be64(head + HDR_SIZE, 128ull << 30);
    store_be32(head + HDR_L1_SIZE, L1_BYTES / sizeof(uint64_t));
    store_be64(head + HDR_L1_OFF, L1_AT);
    store_be64(head + HDR_REFTABLE_OFF, CLUSTER);
    store_be32(head + HDR_REFTABLE_CLUSTERS, 1);
    store_be32(head + HDR_REFCOUNT_ORDER, 4);
    store_be32(head + HDR_HEADER_LEN, HDR_V3_LEN);
    if (!last) {
        store_be64(head + HDR_BACKING_OFF, 1024);
        store_be32(head + HDR_BACKING_LEN, (uint32_t)strlen(below));
        memcpy(head + 1024, below, strlen(below)); /* NOLINT: a name in a header has no end */
        store_be32(head + HDR_V3_LEN, EXT_BACKING_FORMAT);
        store_be32(head + HDR_V3_LEN + 4, 5);
        memcpy(head + HDR_V3_LEN + 8, "qcow2", 5); /* NOLINT: nor has this */
    }
    ck_assert_int_eq(pwrite(fd, head, sizeof(head), 0), sizeof(head));
    for (uint32_t at = 0; at < filling->len; at += sizeof(entries)) {
        uint32_t len = (uint32_t)min_u64(sizeof(entries), filling->len - at);

        memset(entries, 0, sizeof(entries));
        for (uint32_t i = 0; i < len; i += filling->step)
            store_be64(entries + i, (L1_AT + L1_BYTES) + (uint64_t)(at + i) / 8 * CLUSTER);
        ck_assert_int_eq(pwrite(fd, entries, len, L1_AT + at), len);
    }
    ck_assert_int_eq(ftruncate(fd, 1ll << 40), 0);
    close(fd);
}

static void make_hostile_chain(unsigned n, struct filling filling)
{
    for (unsigned i = 0; i < n; i++)
        make_hostile(i, i + 1 == n, &filling);
}

/* Resident memory in MiB. */
static unsigned used_memory(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    ck_assert(file && fscanf(file, "%*u %lu", &pages) == 1);
    fclose(file);
    return (unsigned)(pages * (unsigned long)sysconf(_SC_PAGESIZE) >> 20);
}

START_TEST(tables_that_are_not_used_take_no_memory)
{
    unsigned before = used_memory();
    struct block *block;

    make_hostile_chain(BLOCK_CHAIN_MAX, (struct filling){8, 8});
    block = image_open(name_of(0), BLOCK_FORMAT_QCOW2, _i);
    if (MEMORY_IS_MEASURED)
        ck_assert_uint_lt(used_memory() - before, 8);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/* A page of an L1 table for one entry in it, and three such images of 32 MiB. */
START_TEST(tables_of_a_chain_are_bounded_together)
{
    const struct block_options options = {.path = scratch_path(name_of(0)), .readonly = true};
    unsigned before = used_memory();
    struct block *block;
    struct err err;

    make_hostile_chain(3, (struct filling){L1_BYTES, 4096});
    ck_assert_int_eq(block_open(&options, &block, &err), -EFBIG);
    ck_assert_msg(strstr(err.msg, "backing file of"), "%s", err.msg);
    ck_assert_msg(strstr(err.msg, "at most 64 MiB"), "%s", err.msg);
    make_hostile_chain(2, (struct filling){L1_BYTES, 4096});
    block = image_open(name_of(0), BLOCK_FORMAT_QCOW2, true);
    if (MEMORY_IS_MEASURED)
        ck_assert_uint_lt(used_memory() - before, 80);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/*
 * L2 tables in holes: each slice that is looked at has 4 KiB of nothing, and sends the request to
 * the image below. 128 GiB have 16 MiB of them in each image.
 */
START_TEST(what_a_guest_reads_of_a_chain_stays_bounded)
{
    enum { LAYERS = 32 };
    unsigned before = used_memory();
    struct block *block;
    uint8_t sector[BLOCK_SECTOR_SIZE];

    make_hostile_chain(LAYERS, (struct filling){2048, 8});
    block = image_open(name_of(0), BLOCK_FORMAT_QCOW2, true);
    for (uint64_t off = 0; off < 128ull << 30; off += 32u << 20)
        ck_assert_int_eq(mem_block_read(block, off, sector, sizeof(sector)), 0);
    if (MEMORY_IS_MEASURED)
        ck_assert_uint_lt(used_memory() - before, 100); /* 512 without a common bound */
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

/*
 * Before the first write all that is metadata is known by its place: here 4 million L2 tables, of
 * which a file of 32 MiB tells. Nothing is counted, so that is as far as it gets.
 */
START_TEST(what_a_write_has_to_know_is_bounded)
{
    unsigned before = used_memory();
    uint8_t sector[BLOCK_SECTOR_SIZE] = {1};
    struct rusage usage;
    struct block *block;

    make_hostile_chain(1, (struct filling){L1_BYTES, 8});
    block = image_open(name_of(0), BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(mem_block_write(block, 0, sector, sizeof(sector)), -EIO);
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &usage), 0);
    if (MEMORY_IS_MEASURED)
        ck_assert_uint_lt((unsigned)(usage.ru_maxrss >> 10) - before, 120);
    ck_assert_int_eq(block_close(block), -EIO);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *good = tcase_create("good");
    TCase *hostile = tcase_create("hostile");

    tcase_set_timeout(good, 60);
    tcase_add_checked_fixture(good, scratch_set_up, scratch_tear_down);
    tcase_add_test(good, every_layer_of_the_longest_chain_is_read);
    tcase_add_test(good, one_image_more_is_refused);
    suite_add_tcase(suite, good);

    tcase_set_timeout(hostile, 60);
    tcase_add_checked_fixture(hostile, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(hostile, tables_that_are_not_used_take_no_memory, 0, 2);
    tcase_add_test(hostile, tables_of_a_chain_are_bounded_together);
    tcase_add_test(hostile, what_a_write_has_to_know_is_bounded);
    tcase_add_test(hostile, what_a_guest_reads_of_a_chain_stays_bounded);
    suite_add_tcase(suite, hostile);
}

UNIT_USES_THREADS;
UNIT_MAIN("block_chain", add_tests)
