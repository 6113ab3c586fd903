/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The qcow2 engine against a plain array: random operations, one at a time and many at once, on
 * every cluster size and refcount width, with and without a backing file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/unit.h"

#define SECTOR BLOCK_SECTOR_SIZE
#define DEPTH 24

enum backing { BACKING_NONE, BACKING_RAW_SHORT, BACKING_QCOW2_LONG, BACKINGS };

struct variant {
    unsigned version;
    unsigned cluster_bits;
    unsigned refcount_order;
    enum backing backing;
    bool no_zero;
    uint32_t align;
};

/* An image, what it must contain, and what is going on. */
struct rig {
    struct mem_env env;
    struct mem_disk top;
    struct mem_disk base;
    struct block *block;
    uint8_t *model;
    bool *discarded; /* of each sector: it may become zero, now or later */
    uint64_t size;
    uint64_t max_len;
    unsigned seed;
    uint64_t stamp;

    struct loop *loop;
    unsigned left; /* operations still to be started */
    struct slot {
        struct rig *rig;
        struct block_req req;
        struct iovec iov[2];
        uint8_t *buf;
        bool busy;
    } slots[DEPTH];
};

static unsigned base_seed;

static unsigned rnd(struct rig *rig, unsigned below)
{
    return (unsigned)rand_r(&rig->seed) % below;
}

static void stamp_sectors(struct rig *rig, uint8_t *buf, uint64_t len)
{
    for (uint64_t at = 0; at < len; at += SECTOR) {
        memset(buf + at, (int)(1 + rig->stamp % 255), SECTOR);
        store_le64(buf + at, ++rig->stamp);
    }
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static void make_base(struct rig *rig, const struct variant *variant)
{
    struct mem_env env;
    struct block *block;
    uint64_t len = variant->backing == BACKING_RAW_SHORT ? rig->size / 2 + 300 : rig->size * 2;
    uint64_t piece = align_down(rig->size / 8, SECTOR);

    mem_disk_init(&rig->base, "base");
    if (variant->backing == BACKING_NONE)
        return;
    if (variant->backing == BACKING_RAW_SHORT) {
        stamp_sectors(rig, rig->base.data, align_down(len, SECTOR));
        memset(rig->base.data + align_down(len, SECTOR), 7, len % SECTOR);
        rig->base.len = len;
        memcpy(rig->model, rig->base.data, len);
        return;
    }
    qcow2_image_make(&rig->base, &(struct qcow2_image_options){
                                     .cluster_bits = 12, .refcount_order = 4, .size = len});
    mem_env_init(&env);
    mem_env_add(&env, &rig->base);
    block = mem_env_open(&env, "base", BLOCK_FORMAT_QCOW2, false);
    for (uint64_t at = 0; at < 7 * piece; at += 2 * piece) {
        stamp_sectors(rig, rig->model + at, piece);
        ck_assert_int_eq(mem_block_write(block, at, rig->model + at, piece), 0);
    }
    ck_assert_int_eq(block_close(block), 0);
}

static void open_top(struct rig *rig)
{
    rig->block = mem_env_open(&rig->env, "top", BLOCK_FORMAT_QCOW2, false);
}

static void rig_init(struct rig *rig, const struct variant *variant, unsigned seed)
{
    uint64_t size = variant->cluster_bits == 21 ? 9 << 20 : 1 << 20;

    memset(rig, 0, sizeof(*rig));
    rig->seed = seed;
    rig->size = size + 3ull * SECTOR;
    rig->max_len = size / 16;
    rig->model = calloc(1, rig->size);
    rig->discarded = calloc(rig->size / SECTOR, sizeof(*rig->discarded));
    ck_assert_ptr_nonnull(rig->model);
    ck_assert_ptr_nonnull(rig->discarded);
    make_base(rig, variant);
    mem_disk_init(&rig->top, "top");
    rig->top.no_zero = variant->no_zero;
    rig->top.align = variant->align ? variant->align : 1;
    qcow2_image_make(&rig->top,
                     &(struct qcow2_image_options){
                         .version = variant->version,
                         .cluster_bits = variant->cluster_bits,
                         .refcount_order = variant->refcount_order,
                         .size = rig->size,
                         .backing = variant->backing == BACKING_NONE ? NULL : "base",
                         .backing_format = variant->backing == BACKING_RAW_SHORT ? "raw" : "qcow2",
                     });
    mem_env_init(&rig->env);
    mem_env_add(&rig->env, &rig->top);
    mem_env_add(&rig->env, &rig->base);
    open_top(rig);
}

static bool is_zero(const uint8_t *sector)
{
    return sector[0] == 0 && memcmp(sector, sector + 1, SECTOR - 1) == 0;
}

/* What was read is what the model has, or what discards have made of it. */
static void verify(struct rig *rig, const uint8_t *data, uint64_t off, uint64_t len)
{
    for (uint64_t at = 0; at < len; at += SECTOR) {
        uint8_t *model = rig->model + off + at;

        if (memcmp(data + at, model, SECTOR) == 0)
            continue;
        if (!rig->discarded[(off + at) / SECTOR] || !is_zero(data + at))
            ck_abort_msg("offset %llu: other contents than expected",
                         (unsigned long long)(off + at));
        memset(model, 0, SECTOR);
    }
}

static void verify_all(struct rig *rig)
{
    uint8_t *buf = malloc(rig->size);

    ck_assert_ptr_nonnull(buf);
    ck_assert_int_eq(mem_block_read(rig->block, 0, buf, rig->size), 0);
    verify(rig, buf, 0, rig->size);
    free(buf);
}

static void check_image(struct rig *rig)
{
    struct qcow2_image_check check;

    qcow2_image_check(&rig->top, &check);
    ck_assert_msg(check.errors == 0, "%s", check.first);
    ck_assert_msg(check.leaks == 0, "%u leaked clusters", check.leaks);
}

static void rig_done(struct rig *rig)
{
    verify_all(rig);
    ck_assert_int_eq(block_close(rig->block), 0);
    check_image(rig);
    open_top(rig);
    verify_all(rig);
    ck_assert_int_eq(block_close(rig->block), 0);
    mem_disk_done(&rig->top);
    mem_disk_done(&rig->base);
    free(rig->model);
    free(rig->discarded);
}

/* ---- one random operation -------------------------------------------------------------------- */

static void pick_range(struct rig *rig, uint64_t *ret_off, uint64_t *ret_len)
{
    uint64_t max = rnd(rig, 3) ? 16ull * SECTOR : rig->max_len;
    uint64_t off = align_down(rnd(rig, (unsigned)rig->size), SECTOR);
    uint64_t len = SECTOR + align_down(rnd(rig, (unsigned)max), SECTOR);

    if (rnd(rig, 4) == 0)
        off = align_down(off, 4096);
    *ret_off = off;
    *ret_len = min_u64(len, rig->size - off);
}

/* Operations that leave no doubt about what the range contains afterwards. */
static void pick_request(struct rig *rig, struct block_req *req)
{
    static const struct {
        enum block_op op;
        unsigned flags;
        unsigned weight;
    } kinds[] = {
        {BLOCK_WRITE, 0, 9},        {BLOCK_WRITE, BLOCK_REQ_FUA, 1},          {BLOCK_READ, 0, 4},
        {BLOCK_WRITE_ZEROES, 0, 2}, {BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP, 2}, {BLOCK_DISCARD, 0, 2},
        {BLOCK_FLUSH, 0, 1},
    };
    unsigned pick = rnd(rig, 21);
    unsigned i = 0;

    while (pick >= kinds[i].weight)
        pick -= kinds[i++].weight;
    *req = (struct block_req){.op = kinds[i].op, .flags = kinds[i].flags};
    if (req->op != BLOCK_FLUSH)
        pick_range(rig, &req->off, &req->len);
}

static bool overlaps_others(const struct rig *rig, const struct slot *self)
{
    for (int i = 0; i < DEPTH; i++) {
        const struct slot *other = &rig->slots[i];

        if (other != self && other->busy &&
            ranges_overlap(other->req.off, other->req.len, self->req.off, self->req.len))
            return true;
    }
    return false;
}

static void prepare(struct slot *slot)
{
    struct rig *rig = slot->rig;
    struct block_req *req = &slot->req;

    do {
        pick_request(rig, req);
    } while (overlaps_others(rig, slot));
    slot->buf = malloc(req->len + 1);
    ck_assert_ptr_nonnull(slot->buf);
    if (req->op == BLOCK_WRITE)
        stamp_sectors(rig, slot->buf, req->len);
    /* Two pieces at an odd place. */
    slot->iov[0] = (struct iovec){slot->buf, req->len / 3};
    slot->iov[1] = (struct iovec){slot->buf + req->len / 3, req->len - req->len / 3};
    req->iov = slot->iov;
    req->niov = 2;
    slot->busy = true;
}

static void account(struct slot *slot)
{
    struct rig *rig = slot->rig;
    const struct block_req *req = &slot->req;
    uint8_t *model = rig->model + req->off;
    bool *discarded = rig->discarded + req->off / SECTOR;

    if (req->op == BLOCK_READ)
        verify(rig, slot->buf, req->off, req->len);
    else if (req->op == BLOCK_WRITE)
        memcpy(model, slot->buf, req->len);
    else if (req->op == BLOCK_WRITE_ZEROES)
        memset(model, 0, req->len);
    if (req->op == BLOCK_WRITE || req->op == BLOCK_WRITE_ZEROES || req->op == BLOCK_DISCARD)
        memset(discarded, req->op == BLOCK_DISCARD, req->len / SECTOR);
    slot->busy = false;
    free(slot->buf);
}

/* ---- one at a time --------------------------------------------------------------------------- */

static void run_serially(struct rig *rig, unsigned n)
{
    struct slot *slot = &rig->slots[0];

    slot->rig = rig;
    while (n-- > 0) {
        prepare(slot);
        ck_assert_int_eq(block_execute(rig->block, &slot->req), 0);
        account(slot);
    }
}

/* ---- many at once ---------------------------------------------------------------------------- */

static void slot_start(struct slot *slot);

static void slot_finished(struct block_req *req, int result)
{
    struct slot *slot = container_of(req, struct slot, req);

    ck_assert_int_eq(result, 0);
    account(slot);
    slot_start(slot);
}

static void slot_start(struct slot *slot)
{
    struct rig *rig = slot->rig;

    if (rig->left == 0) {
        if (block_in_flight(rig->block) == 0)
            loop_stop(rig->loop);
        return;
    }
    rig->left--;
    prepare(slot);
    slot->req.done = slot_finished;
    block_submit(rig->block, &slot->req);
}

static void run_concurrently(struct rig *rig, unsigned n)
{
    struct err err = {0};

    ck_assert_int_eq(loop_new(&rig->loop), 0);
    ck_assert_int_eq(block_attach(rig->block, rig->loop, &err), 0);
    rig->left = n;
    for (int i = 0; i < DEPTH; i++) {
        rig->slots[i].rig = rig;
        slot_start(&rig->slots[i]);
    }
    ck_assert_int_eq(loop_run(rig->loop), 0);
    ck_assert_int_eq(block_detach(rig->block), 0);
    loop_free(rig->loop);
}

/* ---- the matrix ------------------------------------------------------------------------------ */

static void run_variant(const struct variant *variant, unsigned n)
{
    unsigned seed =
        base_seed + variant->cluster_bits * 100 + variant->refcount_order * 10 + variant->backing;
    struct rig rig;

    printf("version %u, cluster bits %u, refcount order %u, backing %d: seed %u\n",
           variant->version, variant->cluster_bits, variant->refcount_order, variant->backing,
           seed);
    rig_init(&rig, variant, seed);
    run_serially(&rig, n);
    rig.block->driver->trim(rig.block); /* as when it is idle: nothing may be lost */
    verify_all(&rig);
    rig.top.shuffle = true;
    rig.top.seed = seed;
    run_concurrently(&rig, n);
    rig_done(&rig);
}

static const unsigned cluster_bits[] = {9, 10, 12, 16, 21};

START_TEST(random_requests_match_a_plain_array)
{
    for (unsigned order = 0; order <= 6; order++)
        for (int backing = 0; backing < BACKINGS; backing++)
            run_variant(&(struct variant){3, cluster_bits[_i], order, backing, false, 0}, 150);
}
END_TEST

START_TEST(random_requests_on_version_2_match_a_plain_array)
{
    for (int backing = 0; backing < BACKINGS; backing++)
        run_variant(&(struct variant){2, cluster_bits[_i], 4, backing, false, 0}, 200);
}
END_TEST

START_TEST(random_requests_match_where_the_file_cannot_zero_or_needs_alignment)
{
    for (int backing = 0; backing < BACKINGS; backing++) {
        run_variant(&(struct variant){3, cluster_bits[_i], 4, backing, true, 0}, 200);
        run_variant(&(struct variant){3, cluster_bits[_i], 4, backing, false, 4096}, 200);
    }
}
END_TEST

/* ---- single properties ----------------------------------------------------------------------- */

START_TEST(allocating_write_into_fresh_space_writes_only_the_data)
{
    struct rig rig;
    uint8_t data[4096];

    rig_init(&rig, &(struct variant){3, 16, 4, BACKING_NONE, false, 0}, base_seed);
    memset(data, 1, sizeof(data));
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0); /* makes the table */
    memset(rig.top.counts, 0, sizeof(rig.top.counts));
    ck_assert_int_eq(mem_block_write(rig.block, 65536 + 8192, data, sizeof(data)), 0);
    ck_assert_uint_eq(rig.top.counts[FILE_WRITE], 1);
    ck_assert_uint_eq(rig.top.counts[FILE_READ], 0);
    ck_assert_uint_eq(rig.top.counts[FILE_ZERO], 0);
    memcpy(rig.model, data, sizeof(data));
    memcpy(rig.model + 65536 + 8192, data, sizeof(data));
    rig_done(&rig);
}
END_TEST

START_TEST(copy_on_write_reads_once_and_writes_once)
{
    struct rig rig;
    uint8_t data[4096];

    rig_init(&rig, &(struct variant){3, 16, 4, BACKING_QCOW2_LONG, false, 0}, base_seed);
    memset(data, 1, sizeof(data));
    ck_assert_int_eq(mem_block_write(rig.block, 8192, data, sizeof(data)), 0);
    memcpy(rig.model + 8192, data, sizeof(data));
    memset(rig.top.counts, 0, sizeof(rig.top.counts));
    ck_assert_int_eq(mem_block_write(rig.block, 131072 + 8192, data, sizeof(data)), 0);
    memcpy(rig.model + 131072 + 8192, data, sizeof(data));
    ck_assert_uint_eq(rig.top.counts[FILE_WRITE], 1);
    rig_done(&rig);
}
END_TEST

START_TEST(flushed_allocating_write_costs_two_metadata_writes_and_two_barriers)
{
    struct rig rig;
    uint8_t data[4096];

    rig_init(&rig, &(struct variant){3, 16, 4, BACKING_NONE, false, 0}, base_seed);
    memset(data, 1, sizeof(data));
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    memset(rig.top.counts, 0, sizeof(rig.top.counts));
    ck_assert_int_eq(mem_block_write(rig.block, 65536, data, sizeof(data)), 0);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert_uint_eq(rig.top.counts[FILE_WRITE], 3);
    ck_assert_uint_eq(rig.top.counts[FILE_SYNC], 2);
    memcpy(rig.model, data, sizeof(data));
    memcpy(rig.model + 65536, data, sizeof(data));
    rig_done(&rig);
}
END_TEST

START_TEST(discarded_space_is_punched_and_used_again)
{
    struct rig rig;
    uint8_t *data = malloc(1 << 20);
    uint64_t len;

    ck_assert_ptr_nonnull(data);
    memset(data, 5, 1 << 20);
    rig_init(&rig, &(struct variant){3, 16, 4, BACKING_NONE, false, 0}, base_seed);
    ck_assert_int_eq(mem_block_write(rig.block, 0, data, 1 << 20), 0);
    ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
    len = rig.top.len;
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(mem_block_op(rig.block, BLOCK_DISCARD, 0, 0, 1 << 20), 0);
        ck_assert_int_eq(mem_block_op(rig.block, BLOCK_FLUSH, 0, 0, 0), 0);
        ck_assert_uint_gt(rig.top.counts[FILE_PUNCH], 0);
        ck_assert_int_eq(mem_block_write(rig.block, 0, data, 1 << 20), 0);
    }
    ck_assert_uint_eq(rig.top.len, len);
    memcpy(rig.model, data, 1 << 20);
    free(data);
    rig_done(&rig);
}
END_TEST

START_TEST(refcount_table_grows_with_the_file)
{
    /* 512-byte clusters and 64-bit counts: a table of one cluster counts 2 MiB. */
    struct rig rig;
    struct mem_disk *top = &rig.top;
    uint64_t size = 24 << 20;
    uint8_t *data = malloc(1 << 20);
    struct qcow2_image_check check;

    ck_assert_ptr_nonnull(data);
    rig_init(&rig, &(struct variant){3, 9, 6, BACKING_NONE, false, 0}, base_seed);
    ck_assert_int_eq(block_close(rig.block), 0);
    qcow2_image_make(
        top, &(struct qcow2_image_options){.cluster_bits = 9, .refcount_order = 6, .size = size});
    open_top(&rig);
    for (uint64_t at = 0; at < size; at += 1 << 20) {
        memset(data, (int)(at >> 20) + 1, 1 << 20);
        ck_assert_int_eq(mem_block_write(rig.block, at, data, 1 << 20), 0);
    }
    for (uint64_t at = 0; at < size; at += 1 << 20) {
        ck_assert_int_eq(mem_block_read(rig.block, at, data, 1 << 20), 0);
        ck_assert_uint_eq(data[4711], (at >> 20) + 1);
    }
    ck_assert_int_eq(block_close(rig.block), 0);
    ck_assert_uint_gt(load_be32(top->data + 56), 1);
    qcow2_image_check(top, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s, %u leaks", check.first, check.leaks);
    free(data);
    free(rig.model);
    free(rig.discarded);
    mem_disk_done(&rig.top);
    mem_disk_done(&rig.base);
}
END_TEST

/* ---- the order of a flush -------------------------------------------------------------------- */

enum step { STEP_REFBLOCKS, STEP_REFTABLE, STEP_L2, STEP_L1, STEPS };

/* Does one of the entries of a table point at the cluster of `host`? */
static bool points_at(const struct mem_disk *disk, uint64_t table, uint64_t n, uint64_t cluster,
                      uint64_t host)
{
    for (uint64_t i = 0; i < n; i++)
        if ((load_be64(disk->data + table + i * 8) & 0x00fffffffffffe00ull) ==
            align_down(host, cluster))
            return true;
    return false;
}

/* Which step of a flush writes there, by the tables of the image; STEPS: none. */
static enum step step_of(const struct mem_disk *disk, uint64_t host)
{
    uint64_t cluster = 1ull << load_be32(disk->data + 20);
    uint64_t l1 = load_be64(disk->data + 40);
    uint64_t l1_n = load_be32(disk->data + 36);
    uint64_t reftable = load_be64(disk->data + 48);
    uint64_t reftable_n = load_be32(disk->data + 56) * cluster / 8;

    if (host >= l1 && host < l1 + l1_n * 8)
        return STEP_L1;
    if (host >= reftable && host < reftable + reftable_n * 8)
        return STEP_REFTABLE;
    if (points_at(disk, l1, l1_n, cluster, host))
        return STEP_L2;
    return points_at(disk, reftable, reftable_n, cluster, host) ? STEP_REFBLOCKS : STEPS;
}

/* Between the writes of one and those of the next there is a sync, and one at the end. */
START_TEST(each_step_of_a_flush_is_durable_before_the_next)
{
    static uint8_t data[200 * SECTOR];
    struct mem_record record = {.n = 0};
    bool seen[STEPS + 1] = {false};
    enum step last = STEP_REFBLOCKS;
    bool synced = false;
    struct mem_disk top;
    struct block *block;
    struct mem_env env;

    mem_disk_init(&top, "top");
    qcow2_image_make(
        &top, &(struct qcow2_image_options){.cluster_bits = 9, .refcount_order = 6, .size = MIB});
    mem_env_init(&env);
    mem_env_add(&env, &top);
    block = mem_env_open(&env, "top", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(mem_block_write(block, 0, data, sizeof(data)), 0);
    top.record = &record;
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
    top.record = NULL;
    for (size_t i = 0; i < record.n; i++) {
        enum step step = step_of(&top, record.ops[i].off);

        if (record.ops[i].op != FILE_WRITE) {
            synced = synced || record.ops[i].op == FILE_SYNC;
            continue;
        }
        ck_assert_msg(step == last || (step > last && synced), "step %d after %d", step, last);
        seen[step] = true;
        synced = false;
        last = step;
    }
    ck_assert(synced);
    ck_assert(seen[STEP_REFBLOCKS] && seen[STEP_REFTABLE] && seen[STEP_L2] && seen[STEP_L1]);
    ck_assert(!seen[STEPS]);
    mem_record_done(&record);
    ck_assert_int_eq(block_close(block), 0);
    mem_disk_done(&top);
}
END_TEST

/* As a power cut leaves it between the data and the tables. */
START_TEST(zeroes_reach_a_raw_data_file_that_has_more_than_the_tables_know)
{
    struct mem_disk data;
    struct block *block;
    struct mem_env env;
    struct mem_disk top;
    uint8_t sector[SECTOR] = {0};

    mem_disk_init(&top, "top");
    mem_disk_init(&data, "data");
    qcow2_image_make(
        &top, &(struct qcow2_image_options){
                  .refcount_order = 4, .size = MIB, .data_file = "data", .data_file_raw = true});
    data.len = MIB;
    memset(data.data, 1, MIB);
    mem_env_init(&env);
    mem_env_add(&env, &top);
    mem_env_add(&env, &data);
    block = mem_env_open(&env, "top", BLOCK_FORMAT_QCOW2, false);
    ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, 0, 3ull * SECTOR, SECTOR), 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP, 65536, 65536), 0);
    ck_assert_mem_eq(data.data + 3ull * SECTOR, sector, SECTOR);
    ck_assert_mem_eq(data.data + 65536, sector, SECTOR);
    ck_assert_int_eq(block_close(block), 0);
    mem_disk_done(&top);
    mem_disk_done(&data);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *matrix = tcase_create("matrix");

    base_seed = unit_seed();
    tcase_set_timeout(matrix, 120);
    tcase_add_loop_test(matrix, random_requests_match_a_plain_array, 0, ARRAY_SIZE(cluster_bits));
    tcase_add_loop_test(matrix, random_requests_on_version_2_match_a_plain_array, 0,
                        ARRAY_SIZE(cluster_bits));
    tcase_add_loop_test(matrix, random_requests_match_where_the_file_cannot_zero_or_needs_alignment,
                        0, ARRAY_SIZE(cluster_bits));
    suite_add_tcase(suite, matrix);
    unit_case(suite, "techniques", allocating_write_into_fresh_space_writes_only_the_data,
              copy_on_write_reads_once_and_writes_once,
              flushed_allocating_write_costs_two_metadata_writes_and_two_barriers,
              discarded_space_is_punched_and_used_again, refcount_table_grows_with_the_file,
              each_step_of_a_flush_is_durable_before_the_next,
              zeroes_reach_a_raw_data_file_that_has_more_than_the_tables_know);
}

UNIT_MAIN("qcow2", add_tests)
