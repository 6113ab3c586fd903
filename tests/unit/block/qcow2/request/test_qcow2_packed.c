/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed clusters of qcow2 images: written as QEMU reads them, packed as tightly as QEMU packs
 * them, and kept inflated for as long as they are what the disk shows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/zip.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/map.h"
#include "tests/lib/block/image_file.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define DISK_SIZE ((2u << 20) + 1536)
#define CLUSTER 65536u

static unsigned seed;
static uint8_t model[DISK_SIZE];
static uint8_t buf[DISK_SIZE];

static unsigned rnd(unsigned below)
{
    return (unsigned)rand_r(&seed) % below;
}

static int write_compressed(struct block *block, uint64_t off, const void *data, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct block_req req = {.op = BLOCK_WRITE,
                            .flags = BLOCK_REQ_COMPRESSED,
                            .off = off,
                            .len = len,
                            .iov = &iov,
                            .niov = 1};

    return block_execute(block, &req);
}

/*
 * Shrinks to a few per cent; to about a half; not at all; or to about a third, if what is repeated
 * is found 20 KiB further back.
 */
static void make_data(uint8_t *data, size_t len)
{
    unsigned kind = rnd(4);
    unsigned byte = rnd(256);

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(kind == 0                ? byte + i / 300
                            : kind == 1              ? rnd(16)
                            : kind == 3 && i > 20000 ? data[i - 20000]
                                                     : rnd(256));
}

/* Words in random order, as a text has them. */
static void make_text(uint8_t *data, size_t len)
{
    char words[500][10];
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        for (size_t j = 0; j < sizeof(words[i]); j++)
            words[i][j] = (char)('a' + rnd(16));
        words[i][2 + rnd(7)] = '\0';
    }
    while (n < len) {
        const char *word = words[rnd(ARRAY_SIZE(words))];

        for (; *word && n < len; word++)
            data[n++] = (uint8_t)*word;
        if (n < len)
            data[n++] = ' ';
    }
}

/* ---- beside QEMU ----------------------------------------------------------------------------- */

static struct block *open_image(void)
{
    return image_open_with("image", (struct block_options){.format = BLOCK_FORMAT_QCOW2,
                                                           .discard = true,
                                                           .compute_threads = true,
                                                           .cache = BLOCK_CACHE_UNSAFE});
}

static void change(struct block *block, uint64_t cluster)
{
    uint64_t off = align_down(rnd(DISK_SIZE), cluster);
    uint64_t len = min_u64(cluster * (1 + rnd(cluster < CLUSTER ? 40 : 3)), DISK_SIZE - off);

    switch (rnd(8)) {
    case 0:
        memset(model + off, 0, len);
        ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP, off, len), 0);
        break;
    case 1:
        off = min_u64(off + 512ull * rnd(5), DISK_SIZE - 512);
        len = min_u64(512ull * (1 + rnd(20)), DISK_SIZE - off);
        make_data(model + off, len);
        ck_assert_int_eq(mem_block_write(block, off, model + off, len), 0);
        break;
    case 2:
        ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
        break;
    default:
        make_data(model + off, len);
        ck_assert_int_eq(write_compressed(block, off, model + off, len), 0);
    }
}

static const struct variant {
    const char *options;
    uint64_t cluster;
} variants[] = {
    {"cluster_size=64k", CLUSTER},
    {"cluster_size=64k,compression_type=zstd", CLUSTER},
    {"cluster_size=64k,compat=0.10", CLUSTER},
    {"cluster_size=512", 512},
    {"cluster_size=4k,refcount_bits=1", 4096},
    {"cluster_size=4k,refcount_bits=2,compression_type=zstd", 4096},
    {"cluster_size=2M,compression_type=zstd", 2u << 20},
    {"cluster_size=64k,extended_l2=on", CLUSTER},
};

START_TEST(qemu_reads_what_was_compressed)
{
    struct block *block;

    printf("%s: SEED=%u\n", variants[_i].options, seed);
    scratch_ok("qemu-img create -q -f qcow2 -o %s image %u", variants[_i].options, DISK_SIZE);
    memset(model, 0, sizeof(model));
    for (int round = 0; round < 3; round++) {
        block = open_image();
        for (int i = 0; i < 25; i++)
            change(block, variants[_i].cluster);
        ck_assert_int_eq(mem_block_read(block, 0, buf, DISK_SIZE), 0);
        ck_assert_mem_eq(buf, model, DISK_SIZE);
        ck_assert_int_eq(block_close(block), 0);
        image_assert_qemu_agrees("image", model, DISK_SIZE);
    }
}
END_TEST

START_TEST(data_is_packed_as_tightly_as_qemu_packs_it)
{
    struct stat ours;
    struct stat theirs;
    struct block *block;

    make_text(model, DISK_SIZE);
    scratch_save("model", model, DISK_SIZE);
    scratch_ok("qemu-img convert -c -O qcow2 -f raw model theirs && "
               "qemu-img create -q -f qcow2 image %u",
               DISK_SIZE);
    block = open_image();
    ck_assert_int_eq(write_compressed(block, 0, model, DISK_SIZE), 0);
    ck_assert_int_eq(block_close(block), 0);
    image_assert_qemu_agrees("image", model, DISK_SIZE);
    ck_assert_int_eq(stat(scratch_path("image"), &ours), 0);
    ck_assert_int_eq(stat(scratch_path("theirs"), &theirs), 0);
    ck_assert_int_le(ours.st_size,
                     align_up((uint64_t)theirs.st_size, 64 << 10)); /* whole clusters */
}
END_TEST

/* ---- on threads ------------------------------------------------------------------------------ */

#define REQS 11u
#define REQ_LEN (3ull * CLUSTER)

static struct loop *loop;
static struct block_req reqs[REQS];
static struct iovec iovs[REQS];
static unsigned unfinished;

static void req_done(struct block_req *req, int result)
{
    ck_assert_int_eq(result, 0);
    if (--unfinished == 0)
        loop_stop(loop);
}

/* All requests at once, on an image whose clusters are compressed beside the loop. */
static void run_reqs(struct block *block, enum block_op op, unsigned flags, uint8_t *data)
{
    struct err err = {0};

    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(block_attach(block, loop, &err), 0);
    unfinished = REQS;
    for (unsigned i = 0; i < REQS; i++) {
        uint64_t off = (uint64_t)i * REQ_LEN;

        iovs[i] = (struct iovec){data + off, min_u64(REQ_LEN, DISK_SIZE - off)};
        reqs[i] = (struct block_req){.op = op,
                                     .flags = flags,
                                     .off = off,
                                     .len = iovs[i].iov_len,
                                     .iov = &iovs[i],
                                     .niov = 1,
                                     .done = req_done};
        block_submit(block, &reqs[i]);
    }
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_int_eq(block_detach(block), 0);
    loop_free(loop);
}

static uint64_t place_of(struct block *block, uint64_t off)
{
    struct qcow2_extent extent;
    uint64_t host;
    uint64_t len;

    ck_assert_int_eq(qcow2_map(qcow2_of(block), off, CLUSTER, &extent), 0);
    ck_assert_int_eq(extent.kind, QCOW2_PACKED);
    qcow2_packed_range(qcow2_of(block), extent.entry, &host, &len);
    return host;
}

/* What takes longest is in front, so that others are compressed before it. */
START_TEST(requests_are_compressed_side_by_side_and_placed_in_order)
{
    struct block *block;
    uint64_t last = 0;

    scratch_ok("qemu-img create -q -f qcow2 image %u", DISK_SIZE);
    for (unsigned off = 0; off < DISK_SIZE; off += CLUSTER) {
        size_t len = min_u64(CLUSTER, DISK_SIZE - off);

        if (off < 2 * REQ_LEN)
            make_text(model + off, len);
        else
            memset(model + off, (int)off / CLUSTER, len);
    }
    block = open_image();
    run_reqs(block, BLOCK_WRITE, BLOCK_REQ_COMPRESSED, model);
    for (uint64_t off = 0; off < DISK_SIZE; off += CLUSTER) {
        ck_assert_uint_gt(place_of(block, off), last);
        last = place_of(block, off);
    }
    memset(buf, 0xee, DISK_SIZE);
    run_reqs(block, BLOCK_READ, 0, buf);
    ck_assert_mem_eq(buf, model, DISK_SIZE);
    ck_assert_int_eq(block_close(block), 0);
    image_assert_qemu_agrees("image", model, DISK_SIZE);
}
END_TEST

/* A frame without an end, whose header asks for a window of 8 MiB. */
static size_t make_greedy_frame(uint8_t *frame, size_t max)
{
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    ZSTD_inBuffer in = {model, CLUSTER, 0};
    ZSTD_outBuffer out = {frame, max, 0};

    ck_assert_uint_eq(ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, 23), 23);
    ck_assert_uint_eq(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_flush), 0);
    ZSTD_freeCCtx(zstd);
    return out.pos;
}

START_TEST(inflater_that_needed_much_memory_is_not_kept)
{
    static uint8_t frame[2 * CLUSTER];
    struct qcow2_inflater *inflater;
    size_t len;

    make_text(model, CLUSTER);
    len = make_greedy_frame(frame, sizeof(frame));
    ck_assert_int_eq(qcow2_inflater_new(QCOW2_ZSTD, &inflater), 0);
    ck_assert(qcow2_inflater_is_small(inflater));
    ck_assert_int_eq(qcow2_inflate(inflater, frame, len, buf, CLUSTER), 0);
    ck_assert_mem_eq(buf, model, CLUSTER);
    ck_assert(!qcow2_inflater_is_small(inflater));
    qcow2_inflater_free(inflater);

    ck_assert_int_eq(qcow2_inflater_new(QCOW2_ZLIB, &inflater), 0);
    ck_assert(qcow2_inflater_is_small(inflater));
    qcow2_inflater_free(inflater);
}
END_TEST

/* ---- in memory ------------------------------------------------------------------------------- */

struct rig {
    struct mem_env env;
    struct mem_disk disk;
    struct block *block;
};

static void rig_open(struct rig *rig)
{
    rig->block = mem_env_open(&rig->env, "top", BLOCK_FORMAT_QCOW2, false);
}

static void rig_init(struct rig *rig)
{
    mem_disk_init(&rig->disk, "top");
    qcow2_image_make(&rig->disk,
                     &(struct qcow2_image_options){.refcount_order = 4, .size = DISK_SIZE});
    mem_env_init(&rig->env);
    mem_env_add(&rig->env, &rig->disk);
    rig_open(rig);
}

static void rig_done(struct rig *rig)
{
    struct qcow2_image_check check;

    ck_assert_int_eq(block_close(rig->block), 0);
    qcow2_image_check(&rig->disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s, %u leaks", check.first, check.leaks);
    mem_disk_done(&rig->disk);
}

START_TEST(only_whole_clusters_can_be_compressed)
{
    uint64_t last = align_down(DISK_SIZE, CLUSTER);
    struct rig rig;

    rig_init(&rig);
    ck_assert_int_eq(write_compressed(rig.block, 512, model, CLUSTER), -EINVAL);
    ck_assert_int_eq(write_compressed(rig.block, 0, model, CLUSTER - 512), -EINVAL);
    ck_assert_int_eq(write_compressed(rig.block, 0, model, CLUSTER + 512), -EINVAL);
    ck_assert_int_eq(write_compressed(rig.block, last, model, DISK_SIZE - last - 512), -EINVAL);
    ck_assert_int_eq(write_compressed(rig.block, last, model, DISK_SIZE - last), 0);
    rig_done(&rig);
}
END_TEST

START_TEST(raw_images_have_no_compressed_clusters)
{
    struct mem_env env;
    struct mem_disk disk;
    struct block *block;

    mem_disk_init(&disk, "raw");
    disk.len = CLUSTER;
    mem_env_init(&env);
    mem_env_add(&env, &disk);
    block = mem_env_open(&env, "raw", BLOCK_FORMAT_RAW, false);
    ck_assert_int_eq(write_compressed(block, 0, model, CLUSTER), -ENOTSUP);
    ck_assert_int_eq(block_close(block), 0);
    mem_disk_done(&disk);
}
END_TEST

static void assert_status(struct block *block, uint64_t off, unsigned flags)
{
    struct block_status status;

    ck_assert_int_eq(block_get_status(block, off, CLUSTER, true, &status), 0);
    ck_assert_uint_eq(status.flags & BLOCK_STATUS_COMPRESSED, flags);
}

START_TEST(what_does_not_shrink_is_written_plainly)
{
    struct rig rig;

    rig_init(&rig);
    for (unsigned i = 0; i < CLUSTER; i++)
        model[i] = (uint8_t)rnd(256);
    memset(model + CLUSTER, 7, CLUSTER);
    ck_assert_int_eq(write_compressed(rig.block, 0, model, 2ull * CLUSTER), 0);
    assert_status(rig.block, 0, 0);
    assert_status(rig.block, CLUSTER, BLOCK_STATUS_COMPRESSED);
    ck_assert_int_eq(mem_block_read(rig.block, 0, buf, 2ull * CLUSTER), 0);
    ck_assert_mem_eq(buf, model, 2ull * CLUSTER);
    rig_done(&rig);
}
END_TEST

static uint64_t reads_of_data(const struct rig *rig)
{
    return block_get_stats(rig->block)->data_reads;
}

/*
 * Clusters 0 to 7 and 16 to 23 lie beside each other in the file, 24 to 27 far away from 28 to 31.
 */
START_TEST(compressed_neighbours_are_one_read)
{
    static const struct {
        uint64_t first;
        uint64_t n;
        uint64_t reads;
    } cases[] = {{0, 8, 1}, {16, 8, 1}, {3, 2, 1}, {24, 8, 8}};
    struct rig rig;

    rig_init(&rig);
    make_text(model, DISK_SIZE);
    ck_assert_int_eq(write_compressed(rig.block, 0, model, 8ull * CLUSTER), 0);
    ck_assert_int_eq(mem_block_write(rig.block, 8ull * CLUSTER, model + 8ull * CLUSTER, CLUSTER),
                     0);
    memset(model + 9ull * CLUSTER, 0, 7ull * CLUSTER);
    ck_assert_int_eq(
        write_compressed(rig.block, 16ull * CLUSTER, model + 16ull * CLUSTER, 12ull * CLUSTER), 0);
    memset(buf, 0xff, 8ull * CLUSTER);
    ck_assert_int_eq(mem_block_write(rig.block, 8ull * CLUSTER, buf, 8ull * CLUSTER), 0);
    ck_assert_int_eq(
        write_compressed(rig.block, 28ull * CLUSTER, model + 28ull * CLUSTER, 4ull * CLUSTER), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t off = cases[i].first * CLUSTER;
        uint64_t before = reads_of_data(&rig);

        ck_assert_int_eq(mem_block_read(rig.block, off, buf, cases[i].n * CLUSTER), 0);
        ck_assert_mem_eq(buf, model + off, cases[i].n * CLUSTER);
        ck_assert_uint_eq(reads_of_data(&rig) - before, cases[i].reads);
    }
    rig_done(&rig);
}
END_TEST

/* Four readers at a time, each of 4 KiB after 4 KiB: every cluster is inflated once. */
START_TEST(sequential_readers_inflate_each_cluster_once)
{
    struct rig rig;
    uint64_t n = 4ull * CLUSTER;

    rig_init(&rig);
    for (unsigned i = 0; i < 4 * n; i++)
        model[i] = (uint8_t)(i >> 9);
    ck_assert_int_eq(write_compressed(rig.block, 0, model, 4 * n), 0);
    for (uint64_t at = 0; at < n; at += 4096) {
        for (uint64_t reader = 0; reader < 4; reader++) {
            uint64_t off = reader * n + at;

            ck_assert_int_eq(mem_block_read(rig.block, off, buf, 4096), 0);
            ck_assert_mem_eq(buf, model + off, 4096);
        }
    }
    ck_assert_uint_eq(reads_of_data(&rig), 16);
    rig.block->driver->trim(rig.block);
    ck_assert_int_eq(mem_block_read(rig.block, 0, buf, 4096), 0);
    ck_assert_uint_eq(reads_of_data(&rig), 17);
    rig_done(&rig);
}
END_TEST

/* The space of a cluster that was read is given away and filled anew, to the same byte. */
START_TEST(space_that_is_used_again_shows_the_new_data)
{
    struct rig rig;

    rig_init(&rig);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t off = i % 2 ? CLUSTER : 0;

        memset(buf, (int)(i + 1), CLUSTER);
        ck_assert_int_eq(write_compressed(rig.block, off, buf, CLUSTER), 0);
        ck_assert_int_eq(mem_block_read(rig.block, off, model, CLUSTER), 0);
        ck_assert_mem_eq(buf, model, CLUSTER);
        ck_assert_int_eq(mem_block_op(rig.block, BLOCK_DISCARD, 0, off, CLUSTER), 0);
        ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
        ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
        ck_assert_int_eq(mem_block_read(rig.block, off, model, CLUSTER), 0);
        ck_assert_uint_eq(model[0], 0);
    }
    ck_assert_uint_le(qcow2_of(rig.block)->file_end, 8ull * CLUSTER); /* it was used again */
    rig_done(&rig);
}
END_TEST

/* Clusters of the file that several compressed ones share are punched with the last of them. */
START_TEST(shared_space_goes_back_to_the_host_with_its_last_user)
{
    struct rig rig;
    unsigned punched;

    rig_init(&rig);
    memset(model, 1, 3ull * CLUSTER);
    ck_assert_int_eq(write_compressed(rig.block, 0, model, 3ull * CLUSTER), 0);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    punched = rig.disk.counts[FILE_PUNCH];
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_DISCARD, 0, 0, CLUSTER), 0);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert_uint_eq(rig.disk.counts[FILE_PUNCH], punched);
    /* The last two in one flush: neither alone is the last reference when it begins. */
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_DISCARD, 0, CLUSTER, 2ull * CLUSTER), 0);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert_uint_eq(rig.disk.counts[FILE_PUNCH], punched + 1);
    rig_done(&rig);
}
END_TEST

/* Raw deflate with the largest window, which QEMU never writes, with matches 20 KiB back. */
static size_t deflate_widely(const uint8_t *src, uint8_t *dst, size_t dst_len)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)src,
                       .avail_in = CLUSTER,
                       .next_out = dst,
                       .avail_out = (uInt)dst_len};

    ck_assert_int_eq(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    ck_assert_int_eq(deflateEnd(&stream), Z_OK);
    return dst_len - stream.avail_out;
}

START_TEST(windows_of_32_kib_are_read)
{
    uint64_t l2 = 4ull * CLUSTER;
    uint64_t host = 5ull * CLUSTER;
    struct rig rig;
    size_t len;

    rig_init(&rig);
    ck_assert_int_eq(block_close(rig.block), 0);
    for (unsigned i = 0; i < 20000; i++)
        model[i] = (uint8_t)rnd(256);
    for (unsigned i = 20000; i < CLUSTER; i++)
        model[i] = model[i - 20000];
    len = deflate_widely(model, rig.disk.data + host, CLUSTER);
    ck_assert_uint_lt(len, 24000);
    rig.disk.len = 6ull * CLUSTER;
    store_be64(rig.disk.data + 3ull * CLUSTER, l2 | 1ull << 63);
    store_be64(rig.disk.data + l2, 1ull << 62 | (uint64_t)(len / 512) << 54 | host);
    store_be16(rig.disk.data + 2ull * CLUSTER + 8, 1); /* counts: L2 table, data */
    store_be16(rig.disk.data + 2ull * CLUSTER + 10, 1);
    rig_open(&rig);
    ck_assert_int_eq(mem_block_read(rig.block, 0, buf, CLUSTER), 0);
    ck_assert_mem_eq(buf, model, CLUSTER);
    rig_done(&rig);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *qemu = tcase_create("qemu");

    seed = unit_seed();
    unit_case(suite, "memory", only_whole_clusters_can_be_compressed,
              raw_images_have_no_compressed_clusters, what_does_not_shrink_is_written_plainly,
              compressed_neighbours_are_one_read, sequential_readers_inflate_each_cluster_once,
              space_that_is_used_again_shows_the_new_data,
              shared_space_goes_back_to_the_host_with_its_last_user, windows_of_32_kib_are_read);
    if (!scratch_has_qemu())
        return;
    tcase_set_timeout(qemu, 120);
    tcase_add_checked_fixture(qemu, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(qemu, qemu_reads_what_was_compressed, 0, ARRAY_SIZE(variants));
    tcase_add_test(qemu, data_is_packed_as_tightly_as_qemu_packs_it);
    tcase_add_test(qemu, requests_are_compressed_side_by_side_and_placed_in_order);
    tcase_add_test(qemu, inflater_that_needed_much_memory_is_not_kept);
    suite_add_tcase(suite, qemu);
}

UNIT_USES_THREADS;
UNIT_MAIN("qcow2_packed", add_tests)
