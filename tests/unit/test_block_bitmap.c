/*
 * Changes of persistent dirty bitmaps, and what is noted in those that follow the disk: beside a model,
 * when the power fails, and when the host fails an operation. No bitmap that is not in use ever misses
 * a write. What the file says is read here without the engine.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/block_create.h"
#include "block/block_ops.h"
#include "tests/lib/hash.h"
#include "tests/lib/mem_file.h"
#include "tests/lib/power_cut.h"
#include "tests/lib/qcow2_image.h"
#include "tests/lib/unit.h"
#include "vmm/base/bytes.h"

#define SECTOR ((size_t)BLOCK_SECTOR_SIZE)
/* With clusters and granularity of 512 bytes a bitmap has two clusters. */
#define DISK_SIZE (2112ull << 10)
#define SECTORS ((unsigned)(DISK_SIZE / SECTOR))
#define LONGEST (2 * DISK_SIZE)

#define EXTENSION 0x23852875u
#define OFF_MASK 0x00fffffffffffe00ull
#define IN_USE 1u
#define AUTO 2u

static unsigned base_seed;

/* ---- images --------------------------------------------------------------------------------------------- */

/* The feature names reach beyond the header's first sector, or do not fit at all; with a name behind. */
static const struct layout {
    uint32_t cluster_size;
    unsigned refcount_bits;
    const char *backing;
    bool extended_l2;
} layouts[] = {
    {.cluster_size = 512, .refcount_bits = 64},
    {.cluster_size = 512, .refcount_bits = 16, .backing = "base"},
    {.cluster_size = 4096, .refcount_bits = 1},
    {.cluster_size = 4096, .refcount_bits = 16, .backing = "base"},
    {.cluster_size = 65536, .refcount_bits = 8, .extended_l2 = true},
};

static struct block *open_disk(struct mem_disk *disk, bool writable, struct mem_env *env)
{
    struct block_options options = {.path = "top",
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .readonly = !writable,
                                    .discard = true,
                                    .flags = writable ? 0 : BLOCK_OPEN_SHARE};
    static struct mem_disk base = {.name = NULL};
    struct block *block;
    struct err err = {0};

    if (!base.name)
        mem_disk_init(&base, "base");
    base.len = DISK_SIZE;
    mem_env_init(env);
    mem_env_add(env, disk);
    mem_env_add(env, &base);
    if (block_open_in(&env->env, &options, &block, &err) < 0)
        ck_abort_msg("cannot open: %s", err.msg);
    return block;
}

static void make_image(struct mem_disk *disk, const struct layout *layout)
{
    struct block_create_options options = {.path = "top",
                                           .format = BLOCK_FORMAT_QCOW2,
                                           .len = DISK_SIZE,
                                           .cluster_size = layout->cluster_size,
                                           .refcount_bits = layout->refcount_bits,
                                           .extended_l2 = layout->extended_l2,
                                           .backing_file = layout->backing,
                                           .backing_format = layout->backing ? BLOCK_FORMAT_RAW
                                                                             : BLOCK_FORMAT_PROBE,
                                           .backing_unchecked = true};
    struct mem_env env;
    struct err err = {0};

    mem_disk_init(disk, "top");
    mem_env_init(&env);
    mem_env_add(&env, disk);
    ck_assert_msg(block_create_in(&env.env, &options, &err) == 0, "%s", err.msg);
}

static int edit(struct block *block, enum block_bitmap_op op, const char *name, const char *source,
                uint32_t granularity, struct err *err)
{
    const struct block_bitmap_edit what = {
        .op = op, .name = name, .source_name = source, .granularity = granularity};

    return block_bitmap_edit(block, &what, err);
}

static void must_edit(struct block *block, enum block_bitmap_op op, const char *name,
                      const char *source, uint32_t granularity)
{
    struct err err = {0};

    ck_assert_msg(edit(block, op, name, source, granularity, &err) == 0, "%s: %s", name, err.msg);
}

static void write_at(struct block *block, uint64_t off, size_t len, uint8_t value)
{
    static uint8_t data[64 * SECTOR];

    memset(data, value, sizeof(data));
    ck_assert_int_eq(mem_block_write(block, off, data, len), 0);
}

/* ---- what the file says ---------------------------------------------------------------------------------- */

#define BITMAPS 8u

struct seen {
    char name[16];
    uint32_t flags;
    unsigned granularity_bits;
    uint64_t hash;                      /* of its bits */
    uint8_t bits[LONGEST / SECTOR / 8]; /* as many as the disk needs */
};

struct all_seen {
    uint64_t len; /* of the disk */
    unsigned n;
    struct seen list[BITMAPS];
};

static bool has_bit(const uint8_t *bits, uint64_t bit)
{
    return bits[bit / 8] >> (bit % 8) & 1;
}

static void set_bit(uint8_t *bits, uint64_t bit)
{
    bits[bit / 8] |= (uint8_t)(1u << bit % 8);
}

static void see_bits(const struct mem_disk *disk, uint64_t len, uint64_t table, uint32_t n,
                     struct seen *seen)
{
    uint64_t cluster = 1ull << load_be32(disk->data + 20);
    uint64_t nbits = div_round_up(len, 1ull << seen->granularity_bits);

    ck_assert_uint_eq(n, div_round_up(nbits, cluster * 8));
    for (uint64_t bit = 0; bit < nbits; bit++) {
        uint64_t entry = load_be64(disk->data + table + bit / 8 / cluster * 8);
        uint64_t host = entry & OFF_MASK;

        ck_assert_uint_le(host + cluster, MEM_DISK_MAX);
        if (host ? has_bit(disk->data + host, bit % (cluster * 8)) : entry & 1)
            set_bit(seen->bits, bit);
    }
    seen->hash = hash_bytes(HASH_START, seen->bits, sizeof(seen->bits));
}

static void see_directory(const struct mem_disk *disk, const uint8_t *extension,
                          struct all_seen *all)
{
    uint64_t at = load_be64(extension + 16);

    all->n = load_be32(extension);
    ck_assert_uint_le(all->n, BITMAPS);
    for (unsigned i = 0; i < all->n; i++) {
        const uint8_t *entry = disk->data + at;
        struct seen *seen = &all->list[i];
        unsigned name_len = load_be16(entry + 18);

        ck_assert_uint_lt(name_len, sizeof(seen->name));
        memcpy(seen->name, entry + 24, name_len);
        seen->flags = load_be32(entry + 12);
        seen->granularity_bits = entry[17];
        if (!(seen->flags & IN_USE))
            see_bits(disk, all->len, load_be64(entry), load_be32(entry + 8), seen);
        at += align_up(24 + name_len, 8);
    }
}

static void see(const struct mem_disk *disk, struct all_seen *all)
{
    uint64_t at = load_be32(disk->data + 100);

    memset(all, 0, sizeof(*all));
    all->len = load_be64(disk->data + 24);
    if (!(load_be64(disk->data + 88) & 1))
        return;
    while (load_be32(disk->data + at) != EXTENSION) {
        ck_assert_uint_ne(load_be32(disk->data + at), 0);
        at += 8 + align_up(load_be32(disk->data + at + 4), 8);
    }
    see_directory(disk, disk->data + at + 8, all);
}

static const struct seen *find_seen(const struct all_seen *all, const char *name)
{
    for (unsigned i = 0; i < all->n; i++)
        if (strcmp(all->list[i].name, name) == 0)
            return &all->list[i];
    ck_abort_msg("no bitmap %s", name);
}

/* With `marked`, `a` may be in use where `b` is not. */
static bool same(const struct all_seen *a, const struct all_seen *b, bool marked)
{
    if (a->n != b->n || a->len != b->len)
        return false;
    for (unsigned i = 0; i < a->n; i++) {
        const struct seen *x = &a->list[i];
        const struct seen *y = &b->list[i];

        if (strcmp(x->name, y->name) != 0 || x->granularity_bits != y->granularity_bits)
            return false;
        if (marked && x->flags == (y->flags | IN_USE))
            continue;
        if (x->flags != y->flags || x->hash != y->hash)
            return false;
    }
    return true;
}

/* ---- changes, beside a model ------------------------------------------------------------------------------ */

#define NAMES 5u

struct model {
    bool there[NAMES];
    bool enabled[NAMES];
    unsigned granularity_bits[NAMES];
    uint8_t dirty[NAMES][SECTORS]; /* by sectors, rounded to the granularity */
};

static const char *name_of(unsigned i)
{
    static const char *const names[NAMES] = {"a", "b", "c", "d", "e"};

    return names[i];
}

static void model_set(struct model *model, unsigned i, uint64_t first, uint64_t end)
{
    uint64_t unit = (1ull << model->granularity_bits[i]) / SECTOR;

    end = min_u64(align_up(end, unit), SECTORS);
    for (uint64_t s = align_down(first, unit); s < end; s++)
        model->dirty[i][s] = 1;
}

static void model_merge(struct model *model, unsigned to, unsigned from)
{
    for (unsigned s = 0; s < SECTORS; s++)
        if (model->dirty[from][s])
            model_set(model, to, s, s + 1);
}

static void random_write(struct block *block, struct model *model, unsigned *seed)
{
    static const enum block_op ops[] = {BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_DISCARD};
    uint64_t first = (unsigned)rand_r(seed) % SECTORS;
    uint64_t n = 1 + (unsigned)rand_r(seed) % (rand_r(seed) % 8 ? 40 : 3000);
    enum block_op op = ops[(unsigned)rand_r(seed) % ARRAY_SIZE(ops)];

    n = min_u64(n, SECTORS - first);
    if (op == BLOCK_WRITE && n <= 64)
        write_at(block, first * SECTOR, n * SECTOR, (uint8_t)rand_r(seed));
    else
        ck_assert_int_eq(mem_block_op(block, op == BLOCK_WRITE ? BLOCK_WRITE_ZEROES : op, 0,
                                      first * SECTOR, n * SECTOR),
                         0);
    for (unsigned i = 0; i < NAMES; i++)
        if (model->there[i] && model->enabled[i])
            model_set(model, i, first, first + n);
}

static void random_edit(struct block *block, struct model *model, unsigned *seed)
{
    enum block_bitmap_op op = (enum block_bitmap_op)((unsigned)rand_r(seed) % 6);
    unsigned i = (unsigned)rand_r(seed) % NAMES;
    unsigned j = (unsigned)rand_r(seed) % NAMES;
    unsigned bits = 9 + (unsigned)rand_r(seed) % 16;
    struct err err = {0};
    int r =
        edit(block, op, name_of(i), op == BLOCK_BITMAP_MERGE ? name_of(j) : NULL, 1u << bits, &err);

    if (op == BLOCK_BITMAP_ADD
            ? model->there[i]
            : !model->there[i] || (op == BLOCK_BITMAP_MERGE && !model->there[j])) {
        ck_assert_int_eq(r, op == BLOCK_BITMAP_ADD ? -EEXIST : -ENOENT);
        return;
    }
    ck_assert_msg(r == 0, "%s", err.msg);
    if (op == BLOCK_BITMAP_ADD)
        model->granularity_bits[i] = bits;
    if (op == BLOCK_BITMAP_ADD || op == BLOCK_BITMAP_REMOVE)
        model->there[i] = op == BLOCK_BITMAP_ADD;
    if (op == BLOCK_BITMAP_ADD || op == BLOCK_BITMAP_CLEAR)
        memset(model->dirty[i], 0, sizeof(model->dirty[i]));
    if (op == BLOCK_BITMAP_ADD || op == BLOCK_BITMAP_ENABLE)
        model->enabled[i] = true;
    if (op == BLOCK_BITMAP_DISABLE)
        model->enabled[i] = false;
    if (op == BLOCK_BITMAP_MERGE)
        model_merge(model, i, j);
}

static void compare(const struct mem_disk *disk, const struct model *model)
{
    static struct all_seen all;
    struct qcow2_image_check check;
    unsigned n = 0;

    qcow2_image_check(disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s, %u leaks", check.first, check.leaks);
    see(disk, &all);
    for (unsigned i = 0; i < NAMES; i++) {
        const struct seen *seen = model->there[i] ? find_seen(&all, name_of(i)) : NULL;

        n += model->there[i];
        if (!seen)
            continue;
        ck_assert_uint_eq(seen->flags, model->enabled[i] ? AUTO : 0);
        ck_assert_uint_eq(seen->granularity_bits, model->granularity_bits[i]);
        for (unsigned s = 0; s < SECTORS; s++)
            ck_assert_msg(has_bit(seen->bits, (uint64_t)s * SECTOR >> seen->granularity_bits) ==
                              model->dirty[i][s],
                          "bitmap %s of granularity 1 << %u, sector %u: %u expected (SEED=%u)",
                          name_of(i), seen->granularity_bits, s, model->dirty[i][s], base_seed);
    }
    ck_assert_uint_eq(all.n, n);
}

START_TEST(bitmaps_say_what_was_written_and_merged)
{
    static struct model model;
    unsigned seed = base_seed + (unsigned)_i;
    struct mem_disk disk;

    memset(&model, 0, sizeof(model));
    make_image(&disk, &layouts[_i]);
    for (unsigned round = 0; round < 40; round++) {
        struct mem_env env;
        struct block *block = open_disk(&disk, true, &env);

        for (unsigned i = 0; i < 6; i++) {
            if (rand_r(&seed) % 2)
                random_edit(block, &model, &seed);
            else
                random_write(block, &model, &seed);
        }
        ck_assert_int_eq(block_close(block), 0);
        compare(&disk, &model);
    }
    mem_disk_done(&disk);
}
END_TEST

/* ---- power cuts ------------------------------------------------------------------------------------------- */

/* Hashes of states that were looked at: many cuts leave the same. */
struct looked_at {
    uint64_t hashes[256];
    size_t n;
};

static bool was_looked_at(struct looked_at *looked, const struct mem_disk *disk)
{
    uint64_t hash = hash_bytes(HASH_START, disk->data, disk->len);

    for (size_t i = 0; i < min_u64(looked->n, ARRAY_SIZE(looked->hashes)); i++)
        if (looked->hashes[i] == hash)
            return true;
    looked->hashes[looked->n++ % ARRAY_SIZE(looked->hashes)] = hash;
    return false;
}

/* ---- operations when something fails --------------------------------------------------------------------------- */

enum start { WITHOUT, WITH_ONE, WITH_ALL };

static void set_up_image(struct mem_disk *disk, const struct layout *layout, enum start start)
{
    struct mem_env env;
    struct block *block;

    make_image(disk, layout);
    block = open_disk(disk, true, &env);
    if (start != WITHOUT)
        must_edit(block, BLOCK_BITMAP_ADD, "live", NULL, 512);
    if (start == WITH_ALL) {
        must_edit(block, BLOCK_BITMAP_ADD, "old", NULL, 65536);
        must_edit(block, BLOCK_BITMAP_ADD, "other", NULL, 4096);
    }
    write_at(block, 100 * SECTOR, 30 * SECTOR, 1);
    write_at(block, DISK_SIZE - 5 * SECTOR, SECTOR, 2);
    if (start == WITH_ALL) {
        must_edit(block, BLOCK_BITMAP_DISABLE, "old", NULL, 0);
        must_edit(block, BLOCK_BITMAP_CLEAR, "other", NULL, 0);
    }
    write_at(block, 1 * MIB, 64 * SECTOR, 3);
    ck_assert_int_eq(block_close(block), 0);
}

static int do_add(struct block *block, struct err *err)
{
    return edit(block, BLOCK_BITMAP_ADD, "new", NULL, 0, err);
}

static int do_add_copy(struct block *block, struct err *err)
{
    return edit(block, BLOCK_BITMAP_ADD, "new", "live", 2048, err);
}

static int do_remove(struct block *block, struct err *err)
{
    return edit(block, BLOCK_BITMAP_REMOVE, "live", NULL, 0, err);
}

static int do_clear(struct block *block, struct err *err)
{
    return edit(block, BLOCK_BITMAP_CLEAR, "live", NULL, 0, err);
}

static int do_enable(struct block *block, struct err *err)
{
    return edit(block, BLOCK_BITMAP_ENABLE, "old", NULL, 0, err);
}

static int do_disable(struct block *block, struct err *err)
{
    return edit(block, BLOCK_BITMAP_DISABLE, "live", NULL, 0, err);
}

static int do_merge(struct block *block, struct err *err)
{
    return edit(block, BLOCK_BITMAP_MERGE, "live", "old", 0, err);
}

static int resize(struct block *block, uint64_t len, struct err *err)
{
    const struct block_resize_options options = {.len = len, .shrink = true};

    return block_resize(block, &options, err);
}

static int do_grow(struct block *block, struct err *err)
{
    return resize(block, LONGEST - SECTOR, err);
}

static int do_shrink(struct block *block, struct err *err)
{
    return resize(block, 1 * MIB + 17 * SECTOR, err);
}

static const struct operation {
    const char *name;
    int (*run)(struct block *block, struct err *err);
    enum start start;
    bool writes; /* bitmaps may be in use, and clusters lost, after a power cut */
} operations[] = {
    {"first", do_add, WITHOUT, false},      {"add", do_add, WITH_ALL, false},
    {"copy", do_add_copy, WITH_ALL, false}, {"remove", do_remove, WITH_ALL, false},
    {"last", do_remove, WITH_ONE, false},   {"clear", do_clear, WITH_ALL, false},
    {"enable", do_enable, WITH_ALL, false}, {"disable", do_disable, WITH_ALL, false},
    {"merge", do_merge, WITH_ALL, false},   {"grow", do_grow, WITH_ALL, true},
    {"shrink", do_shrink, WITH_ALL, true},
};

struct expected {
    struct all_seen before;
    struct all_seen after;
    uint8_t disk[DISK_SIZE];
};

static uint64_t read_disk(struct mem_disk *disk, uint8_t *data)
{
    struct mem_env env;
    struct block *block = open_disk(disk, false, &env);
    uint64_t len = min_u64(block->len, DISK_SIZE);

    ck_assert_int_eq(mem_block_read(block, 0, data, len), 0);
    ck_assert_int_eq(block_close(block), 0);
    return len;
}

static void check_image(const struct operation *op, const struct mem_disk *disk, bool may_leak,
                        long at)
{
    struct qcow2_image_check check;

    qcow2_image_check(disk, &check);
    ck_assert_msg(check.errors == 0, "%s, %ld: %s", op->name, at, check.first);
    ck_assert_msg(check.leaks == 0 || may_leak, "%s, %ld: %u leaks", op->name, at, check.leaks);
}

static void check_state(const struct operation *op, struct mem_disk *disk,
                        const struct expected *expected, bool may_leak, long at)
{
    static uint8_t data[DISK_SIZE];
    static struct all_seen all;
    uint64_t len = read_disk(disk, data);

    check_image(op, disk, may_leak, at);
    ck_assert_msg(memcmp(data, expected->disk, len) == 0, "%s, %ld: other data", op->name, at);
    see(disk, &all);
    ck_assert_msg(same(&all, &expected->before, op->writes) || same(&all, &expected->after, false),
                  "%s, %ld: neither the old bitmaps nor the new ones", op->name, at);
}

static void find_expected(const struct mem_disk *disk, const struct operation *op,
                          struct expected *expected)
{
    struct mem_disk copy;
    struct err err = {0};
    struct mem_env env;
    struct block *block;

    mem_disk_init(&copy, "top");
    mem_disk_copy(&copy, disk);
    see(&copy, &expected->before);
    read_disk(&copy, expected->disk);
    block = open_disk(&copy, true, &env);
    ck_assert_msg(op->run(block, &err) == 0, "%s: %s", op->name, err.msg);
    ck_assert_int_eq(block_close(block), 0);
    see(&copy, &expected->after);
    check_state(op, &copy, expected, false, -1);
    mem_disk_done(&copy);
}

static void cut_everywhere(struct mem_disk *disk, const struct operation *op, unsigned seed)
{
    static struct expected expected;
    struct mem_record record = {0};
    struct power_cut cut;
    struct err err = {0};
    struct mem_env env;
    struct block *block;
    struct looked_at looked = {.n = 0};
    size_t ended;

    find_expected(disk, op, &expected);
    power_cut_init(&cut, &record, &disk, 1, seed);
    disk->record = &record;
    block = open_disk(disk, true, &env);
    ck_assert_int_eq(op->run(block, &err), 0);
    ended = record.n;
    ck_assert_int_eq(block_close(block), 0);
    disk->record = NULL;
    for (size_t at = 0; at <= record.n; at++) {
        if (at == ended) {
            expected.before = expected.after;
            looked.n = 0;
        }
        for (int fate = 0; fate < POWER_CUT_FATES; fate++) {
            power_cut_make(&cut, at, fate);
            if (!was_looked_at(&looked, &cut.state[0]))
                check_state(op, &cut.state[0], &expected, op->writes, (long)at);
        }
    }
    power_cut_done(&cut);
    mem_record_done(&record);
}

START_TEST(power_cut_leaves_the_old_bitmaps_or_the_new_ones)
{
    for (size_t i = (size_t)_i % 2; i < ARRAY_SIZE(operations); i += 2) {
        struct mem_disk disk;

        set_up_image(&disk, &layouts[_i], operations[i].start);
        cut_everywhere(&disk, &operations[i], base_seed + (unsigned)i);
        mem_disk_done(&disk);
    }
}
END_TEST

static const struct mem_fault faults[] = {
    {.result = -EIO},
    {.result = -ENOSPC, .more = 3},
    {.is_short = true, .kinds = 1u << FILE_READ | 1u << FILE_WRITE},
};

static bool run_with_fault(const struct mem_disk *disk, struct mem_disk *copy,
                           const struct operation *op, const struct mem_fault *fault, long after,
                           const struct expected *expected)
{
    static struct all_seen all;
    struct mem_fault now = *fault;
    struct err err = {0};
    struct mem_env env;
    struct block *block;
    int r;

    mem_disk_restore(copy, disk);
    block = open_disk(copy, true, &env);
    now.after = after;
    copy->fault = &now;
    r = op->run(block, &err);
    ck_assert_msg(r == 0 || now.happened, "%s: %s", op->name, err.msg);
    (void)!block_close(block); /* may report the fault */
    copy->fault = NULL;
    check_state(op, copy, expected, true, after);
    see(copy, &all);
    ck_assert_msg(r < 0 || same(&all, &expected->after, false),
                  "%s: succeeded, and is not done (fault %ld)", op->name, after);
    return now.happened;
}

START_TEST(failing_host_leaves_the_old_bitmaps_or_the_new_ones)
{
    static struct expected expected;
    long total = 0;

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        struct mem_disk disk;
        struct mem_disk copy;
        long after = 0;

        set_up_image(&disk, &layouts[i % ARRAY_SIZE(layouts)], operations[i].start);
        find_expected(&disk, &operations[i], &expected);
        mem_disk_init(&copy, "top");
        mem_disk_copy(&copy, &disk);
        while (run_with_fault(&disk, &copy, &operations[i], &faults[_i], after, &expected))
            after++;
        total += after;
        mem_disk_done(&copy);
        mem_disk_done(&disk);
    }
    ck_assert_int_gt(total, 50);
}
END_TEST

/* ---- no write is missed ------------------------------------------------------------------------------------------ */

/* What differs from the beginning must be dirty in each bitmap that follows and is not in use. */
static void check_nothing_missed(struct mem_disk *disk, const struct expected *expected, long at)
{
    static uint8_t data[DISK_SIZE];
    static struct all_seen all;
    uint64_t len = read_disk(disk, data);

    ck_assert_uint_eq(len, DISK_SIZE);
    see(disk, &all);
    ck_assert_uint_eq(all.n, expected->before.n);
    for (unsigned i = 0; i < all.n; i++) {
        const struct seen *seen = &all.list[i];
        const struct seen *was = &expected->before.list[i];

        if ((seen->flags & IN_USE) || !(seen->flags & AUTO))
            continue;
        for (uint64_t s = 0; s < SECTORS; s++) {
            uint64_t bit = s * SECTOR >> seen->granularity_bits;
            bool differs = memcmp(data + s * SECTOR, expected->disk + s * SECTOR, SECTOR) != 0;

            ck_assert_msg(has_bit(seen->bits, bit) || !(differs || has_bit(was->bits, bit)),
                          "%ld: %s misses sector %u (SEED=%u)", at, seen->name, (unsigned)s,
                          base_seed);
        }
    }
}

/* With a change of a bitmap between, which saves the others: the writes behind it are first ones again. */
static void write_session(struct block *block, unsigned seed)
{
    struct err err;

    for (unsigned i = 0; i < 12; i++) {
        uint64_t off = (unsigned)rand_r(&seed) % (SECTORS - 64) * (uint64_t)SECTOR;
        uint64_t len = (1 + (unsigned)rand_r(&seed) % 64) * (uint64_t)SECTOR;
        uint8_t data[64 * SECTOR];

        memset(data, (int)(16 + i), sizeof(data));
        if (rand_r(&seed) % 4 == 0)
            (void)!mem_block_op(block, BLOCK_WRITE_ZEROES, BLOCK_REQ_UNMAP, off, len);
        else
            (void)!mem_block_write(block, off, data, len);
        if (i == 7)
            (void)!edit(block, BLOCK_BITMAP_CLEAR, "old", NULL, 0, &err);
        if (rand_r(&seed) % 3 == 0)
            (void)!mem_block_op(block, BLOCK_FLUSH, 0, 0, 0);
    }
}

static void find_start(struct mem_disk *disk, struct expected *expected)
{
    see(disk, &expected->before);
    read_disk(disk, expected->disk);
}

START_TEST(power_cut_while_writing_leaves_no_bitmap_that_misses_a_write)
{
    static struct expected expected;
    static struct all_seen all;
    struct mem_record record = {0};
    struct mem_disk disk;
    struct mem_disk *disks[] = {&disk};
    struct looked_at looked = {.n = 0};
    struct power_cut cut;
    struct mem_env env;
    struct block *block;

    set_up_image(&disk, &layouts[_i], WITH_ALL);
    find_start(&disk, &expected);
    power_cut_init(&cut, &record, disks, 1, base_seed);
    disk.record = &record;
    block = open_disk(&disk, true, &env);
    write_session(block, base_seed);
    ck_assert_int_eq(block_close(block), 0);
    disk.record = NULL;
    for (size_t at = 0; at <= record.n; at++) {
        for (int fate = 0; fate < POWER_CUT_FATES; fate++) {
            power_cut_make(&cut, at, fate);
            if (!was_looked_at(&looked, &cut.state[0]))
                check_nothing_missed(&cut.state[0], &expected, (long)at);
        }
    }
    see(&disk, &all);
    for (unsigned i = 0; i < all.n; i++)
        ck_assert_uint_eq(all.list[i].flags & IN_USE, 0);
    power_cut_done(&cut);
    mem_record_done(&record);
    mem_disk_done(&disk);
}
END_TEST

START_TEST(failing_host_leaves_no_bitmap_that_misses_a_write)
{
    static struct expected expected;
    struct mem_fault fault = {.after = -1};
    struct mem_disk disk;
    struct mem_disk copy;

    set_up_image(&disk, &layouts[_i], WITH_ALL);
    find_start(&disk, &expected);
    mem_disk_init(&copy, "top");
    mem_disk_copy(&copy, &disk);
    for (long after = 0; after == 0 || fault.happened; after++) {
        struct mem_env env;
        struct block *block;

        mem_disk_restore(&copy, &disk);
        block = open_disk(&copy, true, &env);
        fault = (struct mem_fault){.after = after, .result = -EIO, .more = after % 3 ? 0 : 5};
        copy.fault = &fault;
        write_session(block, base_seed);
        (void)!block_close(block); /* may report the fault */
        copy.fault = NULL;
        check_nothing_missed(&copy, &expected, after);
    }
    mem_disk_done(&copy);
    mem_disk_done(&disk);
}
END_TEST

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

static int code_of(struct block *block, enum block_bitmap_op op, const char *name,
                   const char *source, uint32_t granularity, const char *text)
{
    struct err err = {0};
    int r = edit(block, op, name, source, granularity, &err);

    ck_assert_msg(r == 0 || strstr(err.msg, text), "%s", err.msg);
    return r;
}

START_TEST(bitmap_in_use_can_only_be_removed)
{
    static struct all_seen all;
    struct mem_disk disk;
    struct mem_disk cut;
    struct mem_env env;
    struct block *block;
    struct err err = {0};

    set_up_image(&disk, &layouts[3], WITH_ALL);
    block = open_disk(&disk, true, &env);
    write_at(block, 0, SECTOR, 9);
    mem_disk_init(&cut, "top");
    mem_disk_copy(&cut, &disk);
    ck_assert_int_eq(block_close(block), 0);

    block = open_disk(&cut, true, &env);
    write_at(block, MIB, SECTOR, 9);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_CLEAR, "live", NULL, 0, "'live' is inconsistent"),
                     -ESTALE);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_MERGE, "old", "live", 0, "'live' is inconsistent"),
                     -ESTALE);
    ck_assert_int_eq(resize(block, LONGEST, &err), -ESTALE);
    ck_assert_int_eq(resize(block, MIB, &err), -ESTALE);
    must_edit(block, BLOCK_BITMAP_REMOVE, "live", NULL, 0);
    must_edit(block, BLOCK_BITMAP_REMOVE, "other", NULL, 0);
    ck_assert_msg(resize(block, LONGEST, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    see(&cut, &all);
    ck_assert_uint_eq(all.n, 1);
    ck_assert_uint_eq(find_seen(&all, "old")->flags, 0);
    mem_disk_done(&cut);
    mem_disk_done(&disk);
}
END_TEST

START_TEST(what_cannot_be_is_refused_and_changes_nothing)
{
    static struct all_seen before;
    static struct all_seen after;
    char name[1100] = "";
    struct mem_disk disk;
    struct mem_env env;
    struct block *block;

    memset(name, 'x', 1024);
    set_up_image(&disk, &layouts[2], WITH_ALL);
    see(&disk, &before);
    block = open_disk(&disk, true, &env);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "live", NULL, 0, "already exists"), -EEXIST);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "", NULL, 0, "empty"), -EINVAL);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, name, NULL, 0, "persistent"), -EINVAL);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "n", NULL, 256, "power of 2"), -EINVAL);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "n", NULL, 1000, "power of 2"), -EINVAL);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_ADD, "n", "none", 0, "not found"), -ENOENT);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_MERGE, "live", "none", 0, "not found"), -ENOENT);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_REMOVE, "none", NULL, 0, "not found"), -ENOENT);
    ck_assert_int_eq(block_close(block), 0);
    block = open_disk(&disk, false, &env);
    ck_assert_int_eq(code_of(block, BLOCK_BITMAP_CLEAR, "live", NULL, 0, "reading only"), -EROFS);
    ck_assert_int_eq(block_close(block), 0);
    see(&disk, &after);
    ck_assert(same(&after, &before, false));
    mem_disk_done(&disk);
}
END_TEST

START_TEST(snapshot_is_not_applied_where_bitmaps_would_miss_it)
{
    const struct block_snapshot snapshot = {.name = (char *)(uintptr_t) "s", .date_sec = 1};
    struct mem_disk disk;
    struct mem_env env;
    struct block *block;
    struct err err = {0};

    set_up_image(&disk, &layouts[3], WITH_ALL);
    block = open_disk(&disk, true, &env);
    ck_assert_msg(block_snapshot_create(block, &snapshot, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_snapshot_apply(block, "s", &err), -EBUSY);
    must_edit(block, BLOCK_BITMAP_REMOVE, "live", NULL, 0);
    must_edit(block, BLOCK_BITMAP_REMOVE, "old", NULL, 0);
    must_edit(block, BLOCK_BITMAP_REMOVE, "other", NULL, 0);
    ck_assert_msg(block_snapshot_apply(block, "s", &err) == 0, "%s", err.msg);
    ck_assert_int_eq(block_close(block), 0);
    mem_disk_done(&disk);
}
END_TEST

static void add_loops(Suite *suite)
{
    const TTest *const loops[] = {bitmaps_say_what_was_written_and_merged,
                                  power_cut_leaves_the_old_bitmaps_or_the_new_ones,
                                  power_cut_while_writing_leaves_no_bitmap_that_misses_a_write,
                                  failing_host_leaves_no_bitmap_that_misses_a_write};
    TCase *tcase = tcase_create("failures");

    tcase_set_timeout(tcase, 180);
    for (size_t i = 0; i < ARRAY_SIZE(loops); i++)
        tcase_add_loop_test(tcase, loops[i], 0, ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, failing_host_leaves_the_old_bitmaps_or_the_new_ones, 0,
                        ARRAY_SIZE(faults));
    suite_add_tcase(suite, tcase);
}

static void add_tests(Suite *suite)
{
    const char *text = getenv("SEED");

    base_seed = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);
    printf("SEED=%u\n", base_seed);
    unit_case(suite, "refused", bitmap_in_use_can_only_be_removed,
              what_cannot_be_is_refused_and_changes_nothing,
              snapshot_is_not_applied_where_bitmaps_would_miss_it);
    add_loops(suite);
}

UNIT_MAIN("block_bitmap", add_tests)
