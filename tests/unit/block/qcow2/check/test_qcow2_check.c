/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker beside qemu-img check: on sound images of every layout, and on damaged ones; and the
 * repair of these, judged by qemu-img check.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/image.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define DISK_SIZE (2u << 20)
#define DISK_TEXT "2M"
#define CHUNK 512u
#define NCHUNKS (DISK_SIZE / CHUNK)

static unsigned base_seed;
static unsigned rounds;

/* ---- images ---------------------------------------------------------------------------------- */

struct layout {
    const char *name;
    const char *options; /* of qemu-img create */
    const char *more;    /* commands after the first data was written; NULL: none */
};

#define WRITE_MORE                                                                                 \
    " && qemu-io -t unsafe -f qcow2 -c 'write -q -P 7 300k 200k' -c 'write -q -z 900k 128k' image"

static const struct layout layouts[] = {
    {"default", "cluster_size=64k", NULL},
    {"version 2", "compat=0.10,cluster_size=4k", NULL},
    {"small clusters", "cluster_size=512,refcount_bits=64", NULL},
    {"one-bit counts", "cluster_size=4k,refcount_bits=1", NULL},
    {"eight-bit counts", "cluster_size=1k,refcount_bits=8", NULL},
    {"large clusters", "cluster_size=2M", NULL},
    {"preallocated", "cluster_size=16k,preallocation=metadata", NULL},
    {"snapshots", "cluster_size=4k",
     "qemu-img snapshot -c one image" WRITE_MORE " && qemu-img snapshot -c two image" WRITE_MORE},
    {"version 2 snapshots", "compat=0.10,cluster_size=512",
     "qemu-img snapshot -c one image" WRITE_MORE},
    {"compressed", "cluster_size=4k",
     "qemu-img convert -t unsafe -c -O qcow2 -o cluster_size=4k image packed && mv packed "
     "image" WRITE_MORE " && qemu-img snapshot -c one image"},
    {"zstd", "cluster_size=64k",
     "qemu-img convert -t unsafe -c -O qcow2 -o compression_type=zstd image packed && mv packed "
     "image"},
    {"extended L2", "extended_l2=on,cluster_size=16k",
     "qemu-io -t unsafe -f qcow2 -c 'write -q 400k 1k' -c 'write -q -z 1200k 2k' image && "
     "qemu-img snapshot -c one image" WRITE_MORE},
    {"data file", "cluster_size=4k,data_file=data", NULL},
    {"raw data file", "extended_l2=on,data_file=data,data_file_raw=on", NULL},
    {"bitmaps", "cluster_size=4k",
     "qemu-img bitmap --add -g 512 image one && qemu-img bitmap --add image two" WRITE_MORE},
};

static void make_image(const struct layout *layout)
{
    scratch_ok("qemu-img create -q -f qcow2 -o %s image " DISK_TEXT, layout->options);
    scratch_ok("qemu-io -t unsafe -f qcow2 -c 'write -q -P 1 0 60k' -c 'write -q -P 2 1M 100k' "
               "-c 'write -q -P 3 333k 1k' -c 'write -q -z 64k 64k' -c 'write -q -P 4 1500k 64k' "
               "-c 'discard -q 1064k 16k' image");
    if (layout->more)
        scratch_ok("%s", layout->more);
}

/* ---- verdicts -------------------------------------------------------------------------------- */

enum verdict { CLEAN, LEAKS, CORRUPT, FAILED };

static const char *const verdict_names[] = {"clean", "leaks", "corrupt", "failed"};

struct outcome {
    enum verdict verdict;
    struct block_check_result result; /* unless FAILED */
    char text[512];
};

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* The exit status of qemu-img check is its verdict. */
static void qemu_check(struct outcome *outcome)
{
    static const enum verdict verdicts[] = {CLEAN, FAILED, CORRUPT, LEAKS};
    int status =
        scratch_shell("timeout 20 qemu-img check --output=json -f qcow2 image >json 2>log");
    json_t *json = json_load_file(scratch_path("json"), 0, NULL);

    memset(outcome, 0, sizeof(*outcome));
    outcome->verdict = status >= 0 && status <= 3 ? verdicts[status] : FAILED;
    if (!json)
        return;
    outcome->result = (struct block_check_result){
        .corruptions = number(json, "corruptions"),
        .leaks = number(json, "leaks"),
        .check_errors = number(json, "check-errors"),
        .image_end = number(json, "image-end-offset"),
        .total_clusters = number(json, "total-clusters"),
        .allocated_clusters = number(json, "allocated-clusters"),
        .compressed_clusters = number(json, "compressed-clusters"),
        .fragmented_clusters = number(json, "fragmented-clusters"),
    };
    json_decref(json);
}

struct lines {
    struct block_check_report report;
    unsigned n;
    char *text; /* the first lines */
    size_t len;
};

static void add_line(struct block_check_report *report, const char *text)
{
    struct lines *lines = container_of(report, struct lines, report);

    lines->n++;
    if (lines->len + strlen(text) + 2 < sizeof(((struct outcome *)NULL)->text))
        lines->len += (size_t)sprintf(lines->text + lines->len, "%s\n", text);
}

static void our_check(unsigned fix, struct outcome *outcome)
{
    struct block_options options = {.path = scratch_path("image"),
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .readonly = fix == 0,
                                    .cache = BLOCK_CACHE_UNSAFE,
                                    .flags = BLOCK_OPEN_CHECK};
    struct lines lines = {.report = {.line = add_line}, .text = outcome->text};
    struct block *block;
    struct err err = {0};
    int r;

    memset(outcome, 0, sizeof(*outcome));
    outcome->verdict = FAILED;
    r = block_open(&options, &block, &err);
    if (r == 0) {
        r = block_check(block, fix, &lines.report, &outcome->result, &err);
        ck_assert_int_eq(block_close(block), 0);
    }
    if (r < 0) {
        ck_assert_str_ne(err.msg, "");
        snprintf(outcome->text, sizeof(outcome->text), "%s", err.msg);
    } else if (outcome->result.check_errors == 0) {
        outcome->verdict = outcome->result.corruptions ? CORRUPT
                           : outcome->result.leaks     ? LEAKS
                                                       : CLEAN;
        ck_assert(fix || (outcome->verdict == CLEAN) == (lines.n == 0));
    }
}

static void explain(const struct outcome *ours, const struct outcome *qemu)
{
    const struct block_check_result *a = &ours->result;
    const struct block_check_result *b = &qemu->result;

    printf("ours: %s, %llu corruptions, %llu leaks, %llu errors, end %llu, %llu/%llu/%llu\n%s",
           verdict_names[ours->verdict], (unsigned long long)a->corruptions,
           (unsigned long long)a->leaks, (unsigned long long)a->check_errors,
           (unsigned long long)a->image_end, (unsigned long long)a->allocated_clusters,
           (unsigned long long)a->compressed_clusters, (unsigned long long)a->fragmented_clusters,
           ours->text);
    printf("qemu: %s, %llu corruptions, %llu leaks, %llu errors, end %llu, %llu/%llu/%llu\n",
           verdict_names[qemu->verdict], (unsigned long long)b->corruptions,
           (unsigned long long)b->leaks, (unsigned long long)b->check_errors,
           (unsigned long long)b->image_end, (unsigned long long)b->allocated_clusters,
           (unsigned long long)b->compressed_clusters, (unsigned long long)b->fragmented_clusters);
    (void)scratch_shell("head -8 log");
}

START_TEST(sound_images_are_counted_as_qemu_counts_them)
{
    struct outcome ours;
    struct outcome qemu;

    make_image(&layouts[_i]);
    qemu_check(&qemu);
    our_check(0, &ours);
    ck_assert_int_eq(qemu.verdict, CLEAN);
    if (ours.verdict != CLEAN || memcmp(&ours.result, &qemu.result, sizeof(ours.result)) != 0) {
        explain(&ours, &qemu);
        ck_abort_msg("%s: other figures", layouts[_i].name);
    }
}
END_TEST

/* ---- damage ---------------------------------------------------------------------------------- */

static uint8_t *image;
static size_t image_len;

static void load_image(void)
{
    struct stat st;

    ck_assert_int_eq(stat(scratch_path("image"), &st), 0);
    image_len = (size_t)st.st_size;
    image = malloc(image_len);
    ck_assert_ptr_nonnull(image);
    ck_assert_uint_eq(scratch_load("image", image, image_len), image_len);
}

/* Where metadata is, to be damaged. */
struct place {
    const char *name;
    uint64_t host;
    uint64_t len;
};

#define PLACES_MAX 64u
#define OFF_MASK 0x00fffffffffffe00ull
#define COPIED (1ull << 63)

static struct place places[PLACES_MAX];
static unsigned nplaces;

static void add_place(const char *name, uint64_t host, uint64_t len)
{
    if (nplaces < PLACES_MAX && host < image_len && len > 0)
        places[nplaces++] = (struct place){name, host, min_u64(len, image_len - host)};
}

static void add_places_below(const char *name, uint64_t table, uint64_t n, uint64_t len)
{
    for (uint64_t i = 0; i < n; i++)
        if (range_fits(table + i * 8, 8, image_len) && load_be64(image + table + i * 8) & OFF_MASK)
            add_place(name, load_be64(image + table + i * 8) & OFF_MASK, len);
}

static void find_places(void)
{
    uint64_t cluster = 1ull << load_be32(image + 20);
    uint64_t l1 = load_be64(image + 40);
    uint32_t l1_n = load_be32(image + 36);
    uint64_t reftable = load_be64(image + 48);
    uint64_t snapshots = load_be64(image + 64);

    nplaces = 0;
    add_place("header", 24, 80);
    add_place("L1 table", l1, l1_n * 8ull);
    add_place("refcount table", reftable, 64);
    add_places_below("refcount block", reftable, 2, min_u64(cluster, 1024));
    if (snapshots) {
        add_place("snapshot table", snapshots, 160);
        l1 = load_be64(image + snapshots);
        add_place("snapshot's L1 table", l1, l1_n * 8ull);
        add_places_below("snapshot's L2 table", l1, 8, min_u64(cluster, 2048));
    }
    l1 = load_be64(image + 40);
    for (unsigned i = 0; i < 3; i++)
        add_places_below("L2 table", l1, 8, min_u64(cluster, 2048));
}

/* Most of a table is empty; what is not is more interesting. */
static uint64_t pick_field(unsigned *seed, const struct place *place)
{
    uint64_t at = place->host;

    for (int i = 0; i < 6; i++) {
        at = place->host + align_down((uint64_t)rand_r(seed) % place->len, 8);
        at = min_u64(at, image_len - 8);
        if (load_be64(image + at) != 0)
            break;
    }
    return at;
}

/* Change one field. */
static void damage(unsigned *seed, const struct place *place, char *what, size_t what_len)
{
    uint64_t cluster = 1ull << load_be32(image + 20);
    uint64_t at = pick_field(seed, place);
    uint64_t old = load_be64(image + at);
    uint64_t value;

    switch (rand_r(seed) % 8) {
    case 0:
    case 1:
        value = old ^ 1ull << rand_r(seed) % 64;
        break;
    case 2:
        value = old & ~OFF_MASK; /* nowhere */
        break;
    case 3: /* another cluster of the file */
        value = (old & ~OFF_MASK) | (uint64_t)rand_r(seed) % (image_len / cluster) * cluster;
        break;
    case 4: /* what another entry says */
        value = load_be64(image + pick_field(seed, place));
        break;
    case 5: /* outside */
        value = (old & ~OFF_MASK) | (image_len + (uint64_t)rand_r(seed) * 512);
        break;
    case 6:
        value = (uint64_t)rand_r(seed) << 33 ^ (uint64_t)rand_r(seed);
        break;
    default:
        value = old ^ COPIED;
        break;
    }
    if (load_be32(image + 4) < 3 && place->host > 24)
        value &= ~1ull; /* the zero flag: QEMU's checker does not see that version 2 has none */
    store_be64(image + at, value);
    snprintf(what, what_len, "%s +%llu: %#llx instead of %#llx", place->name,
             (unsigned long long)(at - place->host), (unsigned long long)value,
             (unsigned long long)old);
}

/* ---- data ------------------------------------------------------------------------------------ */

static uint8_t model[DISK_SIZE];
static bool readable[NCHUNKS];

static struct block *open_disk(bool readonly)
{
    struct block_options options = {.path = scratch_path("image"),
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .readonly = readonly,
                                    .cache = BLOCK_CACHE_UNSAFE};
    struct block *block;
    struct err err;

    return block_open(&options, &block, &err) < 0 ? NULL : block;
}

static void read_model(void)
{
    struct block *block = open_disk(true);

    ck_assert_ptr_nonnull(block);
    ck_assert_int_eq(mem_block_read(block, 0, model, DISK_SIZE), 0);
    ck_assert_int_eq(block_close(block), 0);
}

static bool reads_as_model(struct block *block, unsigned chunk)
{
    uint8_t data[CHUNK];
    uint64_t off = chunk * (uint64_t)CHUNK;
    struct block_info info;

    block_get_info(block, &info);
    return off + CHUNK <= info.len && mem_block_read(block, off, data, CHUNK) == 0 &&
           memcmp(data, model + off, CHUNK) == 0;
}

/* What the damage left. */
static unsigned find_readable(void)
{
    struct block *block = open_disk(true);
    unsigned n = 0;

    memset(readable, 0, sizeof(readable));
    if (!block)
        return 0;
    for (unsigned i = 0; i < NCHUNKS; i++) {
        readable[i] = reads_as_model(block, i);
        n += readable[i];
    }
    ck_assert_int_eq(block_close(block), 0);
    return n;
}

static bool readable_still_is(char *what, size_t len)
{
    struct block *block = open_disk(true);
    bool all = true;

    if (!block) {
        snprintf(what, len, "the repaired image cannot be opened");
        return false;
    }
    for (unsigned i = 0; i < NCHUNKS && all; i++) {
        if (!readable[i] || reads_as_model(block, i))
            continue;
        snprintf(what, len, "chunk %u is lost in the repair", i);
        all = false;
    }
    ck_assert_int_eq(block_close(block), 0);
    return all;
}

/* The repaired image is written to, all over. */
static bool can_be_written(char *what, size_t len)
{
    struct block *block = open_disk(false);
    int r = block ? 0 : -EIO;
    struct block_info info;

    if (!block) {
        snprintf(what, len, "the repaired image cannot be opened for writing");
        return false;
    }
    block_get_info(block, &info);
    for (unsigned i = 0; i < min_u64(info.len, DISK_SIZE) / CHUNK && r == 0; i += 9) {
        r = mem_block_write(block, i * (uint64_t)CHUNK, model, CHUNK);
        r = readable[i] ? r : 0; /* the rest of a cluster that cannot be inflated is not there */
    }
    if (block_close(block) < 0 || r < 0) {
        snprintf(what, len, "the repaired image cannot be written: %d", r);
        return false;
    }
    return true;
}

/* ---- one damage ------------------------------------------------------------------------------ */

struct tally {
    unsigned verdicts[4];
    unsigned repaired;
    unsigned other_counts;
};

static bool same_counts(const struct outcome *a, const struct outcome *b)
{
    return a->verdict == FAILED || memcmp(&a->result, &b->result, sizeof(a->result)) == 0;
}

static bool qemu_repairs(void)
{
    struct outcome after;

    scratch_save("image", image, image_len);
    if (scratch_shell("timeout 20 qemu-img check -T unsafe -r all -f qcow2 image >log 2>&1") > 3)
        return false;
    qemu_check(&after);
    return after.verdict == CLEAN;
}

static bool has_extension(uint32_t type)
{
    uint8_t bytes[4];

    store_be32(bytes, type);
    return memmem(image, 512, bytes, sizeof(bytes)) != NULL;
}

/* Repair the damaged image. False, with `why`, if that is no good. */
static bool repair_is_good(struct tally *tally, char *why, size_t len)
{
    struct outcome ours;
    struct outcome after;

    scratch_save("image", image, image_len);
    (void)find_readable();
    our_check(BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &ours);
    if (ours.verdict != CLEAN) {
        snprintf(why, len, "QEMU repairs it, we do not: %.200s", ours.text);
        return !qemu_repairs();
    }
    tally->repaired++;
    qemu_check(&after);
    if (after.verdict != CLEAN) {
        explain(&ours, &after);
        snprintf(why, len, "repaired, but qemu-img check says %s", verdict_names[after.verdict]);
        return false;
    }
    if (!readable_still_is(why, len))
        return false;
    if (has_extension(0x44415441))
        return true; /* neither checker minds entries that make no sense in a data file */
    if (!can_be_written(why, len))
        return false;
    qemu_check(&after);
    snprintf(why, len, "written after the repair: qemu-img check says %s",
             verdict_names[after.verdict]);
    /* Writing makes bitmaps invalid, and what they used is lost space. */
    return after.verdict == CLEAN || (after.verdict == LEAKS && has_extension(0x23852875));
}

static bool damage_is_handled(unsigned *seed, struct tally *tally, char *why, size_t len)
{
    struct outcome ours;
    struct outcome qemu;
    char what[160];
    const struct place *place = &places[(unsigned)rand_r(seed) % nplaces];

    damage(seed, place, what, sizeof(what));
    snprintf(why, len, "another verdict");
    scratch_save("image", image, image_len);
    qemu_check(&qemu);
    our_check(0, &ours);
    tally->verdicts[qemu.verdict]++;
    if (!same_counts(&ours, &qemu))
        tally->other_counts++;
    if (getenv("CHECK_VERBOSE") && !same_counts(&ours, &qemu)) {
        printf("%s\n", what);
        explain(&ours, &qemu);
    }
    if ((ours.verdict == FAILED || qemu.verdict == FAILED) && strcmp(place->name, "header") == 0) {
        our_check(BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS, &ours); /* an image of another kind now */
        return true;
    }
    /* QEMU gives up earlier than we do. */
    if ((ours.verdict == qemu.verdict || (qemu.verdict == FAILED && ours.verdict == CORRUPT)) &&
        repair_is_good(tally, why, len))
        return true;
    printf("%s\n", what);
    explain(&ours, &qemu);
    scratch_save("image", image, image_len);
    return false;
}

START_TEST(damage_is_found_and_repaired)
{
    struct tally tally = {0};
    uint8_t *sound;
    char why[320];

    make_image(&layouts[_i]);
    read_model();
    load_image();
    find_places();
    sound = malloc(image_len);
    ck_assert_ptr_nonnull(sound);
    memcpy(sound, image, image_len);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned seed = base_seed + i;

        memcpy(image, sound, image_len);
        if (!damage_is_handled(&seed, &tally, why, sizeof(why)))
            ck_abort_msg("%s, seed %u: %s", layouts[_i].name, base_seed + i, why);
    }
    printf("%s: seed %u: %u clean, %u leaks, %u corrupt, %u failed; repaired %u; %u counted "
           "otherwise\n",
           layouts[_i].name, base_seed, tally.verdicts[CLEAN], tally.verdicts[LEAKS],
           tally.verdicts[CORRUPT], tally.verdicts[FAILED], tally.repaired, tally.other_counts);
    free(sound);
    free(image);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("check");

    /* The same damage each time, unless more is asked for: then it is new each time. */
    base_seed = unit_number("SEED", getenv("ROUNDS") ? (unsigned)time(NULL) : 20000);
    rounds = unit_number("ROUNDS", 4);
    log_set_level(getenv("CHECK_VERBOSE") ? LOG_WARN : LOG_ERROR);
    tcase_set_timeout(tcase, 60 + rounds);
    tcase_add_checked_fixture(tcase, scratch_set_up, scratch_tear_down);
    tcase_add_loop_test(tcase, sound_images_are_counted_as_qemu_counts_them, 0,
                        ARRAY_SIZE(layouts));
    tcase_add_loop_test(tcase, damage_is_found_and_repaired, 0, ARRAY_SIZE(layouts));
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    return scratch_has_qemu() ? unit_main("qcow2_check", add_tests) : UNIT_SKIP;
}
