/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image that contradicts itself does not lose more than it has lost already: whatever is about
 * to overwrite metadata of any kind marks the image corrupt, and nothing is written any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/image.h"
#include "tests/lib/block/mem_env.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define BITS 12u
#define CLUSTER (1ull << BITS)
#define DISK (64u * CLUSTER)
#define L2_COVERS (CLUSTER / 8 * CLUSTER)
#define COPIED (1ull << 63)
#define OFF_MASK 0x00fffffffffffe00ull

/* Metadata of every kind, and where it is. */
enum place {
    HEADER,
    L1,
    REFTABLE,
    REFBLOCK,
    ACTIVE_L2,
    SNAPSHOTS,
    SNAPSHOT_L1,
    SNAPSHOT_L2,
    BITMAP_DIRECTORY,
    BITMAP_TABLE,
    BITMAP_DATA,
    PLACES
};

static const char *const names[PLACES] = {"header",         "L1",          "refcount table",
                                          "refcount block", "active L2",   "snapshot table",
                                          "snapshot L1",    "snapshot L2", "bitmap directory",
                                          "bitmap table",   "bitmap data"};

static struct mem_disk disk;
static struct mem_env env;
static struct block *block;
static uint64_t places[PLACES];
static uint8_t data[DISK];

/* ---- an image with all of it ----------------------------------------------------------------- */

static void open_image(void)
{
    mem_env_init(&env);
    mem_env_add(&env, &disk);
    block = mem_env_open(&env, "top", BLOCK_FORMAT_QCOW2, false);
}

static uint64_t be64_at(uint64_t host)
{
    return load_be64(disk.data + host);
}

static uint8_t *count_of(uint64_t host)
{
    return disk.data + places[REFBLOCK] + 2 * (host / CLUSTER);
}

static void find_places(void)
{
    places[L1] = be64_at(40);
    places[REFTABLE] = be64_at(48);
    places[REFBLOCK] = be64_at(places[REFTABLE]);
    places[ACTIVE_L2] = be64_at(places[L1]) & OFF_MASK;
    places[SNAPSHOTS] = be64_at(64);
    places[SNAPSHOT_L1] = be64_at(places[SNAPSHOTS]);
    places[SNAPSHOT_L2] = be64_at(places[SNAPSHOT_L1]) & OFF_MASK;
}

static uint64_t append_cluster(void)
{
    uint64_t host = align_up(disk.len, CLUSTER);

    disk.len = host + CLUSTER;
    store_be16(count_of(host), 1);
    return host;
}

/* A bitmap that follows all changes: directory, table, one cluster. */
static void add_bitmap(void)
{
    uint8_t *extension = disk.data + load_be32(disk.data + 100);
    uint8_t *entry;

    places[BITMAP_DIRECTORY] = append_cluster();
    places[BITMAP_TABLE] = append_cluster();
    places[BITMAP_DATA] = append_cluster();
    store_be64(disk.data + 88, 1);
    store_be32(extension, 0x23852875);
    store_be32(extension + 4, 24);
    store_be32(extension + 8, 1);
    store_be64(extension + 16, 32);
    store_be64(extension + 24, places[BITMAP_DIRECTORY]);
    entry = disk.data + places[BITMAP_DIRECTORY];
    store_be64(entry, places[BITMAP_TABLE]);
    store_be32(entry + 8, 1);
    store_be32(entry + 12, 2);
    entry[16] = 1;
    entry[17] = 16;
    store_be16(entry + 18, 1);
    entry[24] = 'b';
    store_be64(disk.data + places[BITMAP_TABLE], places[BITMAP_DATA]);
}

/* What is said goes to a file from now on. */
static void capture_stderr(void)
{
    int fd = open(scratch_path("log"), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

/* Of all lines, one says so, and of which image. */
static void assert_said_once(void)
{
    static const char said[] = "minivmm: error: top: corrupt qcow2 image: ";
    char text[2048] = "";
    const char *line;

    text[scratch_load("log", text, sizeof(text) - 1)] = '\0';
    line = strstr(text, said);
    ck_assert_msg(line != NULL, "said: '%s'", text);
    ck_assert_msg(!strstr(line + 1, said), "more than once: '%s'", text);
}

static void set_up(void)
{
    const struct block_snapshot snapshot = {.name = (char *)(uintptr_t) "s"};
    struct err err = {0};

    scratch_set_up();
    mem_disk_init(&disk, "top");
    qcow2_image_make(&disk, &(struct qcow2_image_options){
                                .cluster_bits = BITS, .refcount_order = 4, .size = 2 * L2_COVERS});
    memset(data, 1, sizeof(data));
    open_image();
    ck_assert_int_eq(mem_block_write(block, 0, data, 8 * CLUSTER), 0);
    ck_assert_msg(block_snapshot_create(block, &snapshot, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(mem_block_write(block, 0, data, 4 * CLUSTER), 0);
    ck_assert_int_eq(block_close(block), 0);
    find_places();
    add_bitmap();
    capture_stderr();
}

static void tear_down(void)
{
    mem_disk_done(&disk);
    scratch_tear_down();
}

/* ---- what must be so ------------------------------------------------------------------------- */

static uint8_t before[CLUSTER];

static void remember(enum place place)
{
    memcpy(before, disk.data + places[place], CLUSTER);
}

/* Metadata of our own changes meanwhile, but by our own hand: what the guest wrote is not in it. */
static void assert_intact(enum place place)
{
    const uint8_t *now = disk.data + places[place];

    if (place == SNAPSHOTS || place == SNAPSHOT_L1 || place == SNAPSHOT_L2 ||
        place == BITMAP_TABLE || place == BITMAP_DATA)
        ck_assert_msg(memcmp(now, before, CLUSTER) == 0, "%s was changed", names[place]);
    else
        ck_assert_msg(memcmp(now, data, CLUSTER) != 0, "%s was overwritten", names[place]);
}

static void assert_stopped(const char *name)
{
    struct mem_record record = {0};

    ck_assert_msg(be64_at(72) & 2, "%s: not marked corrupt", name);
    disk.record = &record;
    ck_assert_int_eq(mem_block_write(block, 0, data, CLUSTER), -EIO);
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 0, CLUSTER), -EIO);
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), -EIO);
    ck_assert_int_eq(block_close(block), -EIO);
    ck_assert_msg(record.n == 0, "%s: something was written afterwards", name);
    disk.record = NULL;
    mem_record_done(&record);
    assert_said_once();
}

/* The disk's entry for a cluster that nobody else uses. */
static uint8_t *entry_of(unsigned cluster)
{
    return disk.data + places[ACTIVE_L2] + 8ull * cluster;
}

START_TEST(image_with_everything_is_written)
{
    struct qcow2_image_check check;

    open_image();
    ck_assert_int_eq(mem_block_write(block, 0, data, DISK), 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 0, DISK / 2), 0);
    ck_assert_int_eq(mem_block_op(block, BLOCK_FLUSH, 0, 0, 0), 0);
    ck_assert_int_eq(block_close(block), 0);
    qcow2_image_check(&disk, &check);
    ck_assert_msg(check.errors == 0 && check.leaks == 0, "%s", check.first);
    ck_assert_uint_eq(be64_at(72), 0);
}
END_TEST

START_TEST(metadata_counted_as_free_is_not_handed_out)
{
    enum place place = (enum place)_i;

    store_be16(count_of(places[place]), 0);
    remember(place);
    open_image();
    ck_assert_int_eq(mem_block_write(block, 0, data, DISK), -EIO);
    assert_intact(place);
    assert_stopped(names[place]);
}
END_TEST

START_TEST(metadata_counted_as_free_becomes_no_table)
{
    enum place place = (enum place)_i;

    store_be16(count_of(places[place]), 0);
    remember(place);
    open_image();
    ck_assert_int_eq(mem_block_write(block, L2_COVERS, data, CLUSTER), -EIO);
    if (place != HEADER && place != BITMAP_DIRECTORY) /* which say "corrupt" and "in use" */
        ck_assert_msg(memcmp(disk.data + places[place], before, CLUSTER) == 0, "%s was changed",
                      names[place]);
    assert_stopped(names[place]);
}
END_TEST

START_TEST(data_is_not_written_over_metadata)
{
    enum place place = (enum place)_i;

    if (place == HEADER) /* as an entry that means "nothing there" */
        return;
    store_be64(entry_of(20), places[place] | COPIED);
    remember(place);
    open_image();
    ck_assert_int_eq(mem_block_write(block, 20 * CLUSTER, data, CLUSTER), -EIO);
    assert_intact(place);
    assert_stopped(names[place]);
}
END_TEST

START_TEST(metadata_is_not_released_as_data)
{
    enum place place = (enum place)_i;

    if (place == HEADER)
        return;
    store_be64(entry_of(20), places[place] | COPIED);
    remember(place);
    open_image();
    ck_assert_int_eq(mem_block_op(block, BLOCK_DISCARD, 0, 20 * CLUSTER, CLUSTER), 0);
    (void)mem_block_op(block, BLOCK_FLUSH, 0, 0, 0); /* may tell already */
    assert_intact(place);
    assert_stopped(names[place]);
    ck_assert_uint_eq(load_be16(count_of(places[place])), 1);
}
END_TEST

START_TEST(tables_in_the_place_of_others_are_not_written)
{
    enum place place = (enum place)_i;

    if (place == HEADER || place == ACTIVE_L2)
        return;
    store_be64(disk.data + places[L1], places[place] | COPIED);
    remember(place);
    open_image();
    (void)mem_block_write(block, 30 * CLUSTER, data, CLUSTER); /* told now, or by the flush */
    (void)mem_block_op(block, BLOCK_FLUSH, 0, 0, 0);
    assert_intact(place);
    assert_stopped(names[place]);
}
END_TEST

START_TEST(damaged_snapshot_table_stops_writing)
{
    store_be32(disk.data + places[SNAPSHOTS] + 36, 1u << 20); /* extra data longer than anybody's */
    open_image();
    ck_assert_int_eq(mem_block_write(block, 0, data, CLUSTER), -EIO);
    assert_stopped("snapshot table");
}
END_TEST

/* A crash in between would leave a bitmap that seems right and is not. */
START_TEST(bitmap_is_out_of_date_durably_before_the_first_change)
{
    struct mem_record record = {0};

    open_image();
    disk.record = &record;
    ck_assert_int_eq(mem_block_write(block, 0, data, CLUSTER), 0);
    disk.record = NULL;
    ck_assert_uint_ge(record.n, 4);
    ck_assert_uint_eq(record.ops[0].op, FILE_SYNC);
    ck_assert_uint_eq(record.ops[1].op, FILE_WRITE);
    ck_assert_uint_eq(record.ops[1].off, places[BITMAP_DIRECTORY] + 12);
    ck_assert_uint_eq(load_be32(record.ops[1].data), 3);
    ck_assert_uint_eq(record.ops[2].op, FILE_SYNC);
    mem_record_done(&record);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    const TTest *const loops[] = {
        metadata_counted_as_free_is_not_handed_out, metadata_counted_as_free_becomes_no_table,
        data_is_not_written_over_metadata, metadata_is_not_released_as_data,
        tables_in_the_place_of_others_are_not_written};
    TCase *places_case = tcase_create("places");

    unit_case_with(suite, "image", set_up, tear_down, image_with_everything_is_written,
                   damaged_snapshot_table_stops_writing,
                   bitmap_is_out_of_date_durably_before_the_first_change);
    tcase_add_checked_fixture(places_case, set_up, tear_down);
    for (size_t i = 0; i < ARRAY_SIZE(loops); i++)
        tcase_add_loop_test(places_case, loops[i], 0, PLACES);
    suite_add_tcase(suite, places_case);
}

UNIT_MAIN("qcow2_overlap", add_tests)
