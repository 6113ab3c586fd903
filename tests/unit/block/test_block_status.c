/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block status beside `qemu-img map`, on chains of images that qemu-img made.
 */
#include <jansson.h>

#include "tests/lib/block/image_file.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define MIB (1ull << 20)

static struct block *open_image(const char *name)
{
    return image_open_with(name, (struct block_options){.readonly = true});
}

/* Does the second go on where the first ends, as qemu-img map joins them? */
static bool joins(const struct block_status *a, const struct block_status *b)
{
    const unsigned shown = ~(unsigned)BLOCK_STATUS_COMPRESSED;

    return (a->flags & shown) == (b->flags & shown) && a->depth == b->depth &&
           (!(a->flags & BLOCK_STATUS_OFFSET) || b->host == a->host + a->len);
}

static void assert_entry(const json_t *entry, uint64_t start, const struct block_status *status)
{
    const json_t *offset = json_object_get(entry, "offset");

    ck_assert_ptr_nonnull(entry);
    ck_assert_uint_eq(json_integer_value(json_object_get(entry, "start")), start);
    ck_assert_msg(json_integer_value(json_object_get(entry, "length")) == (json_int_t)status->len,
                  "at %llu: length %llu", (unsigned long long)start,
                  (unsigned long long)status->len);
    ck_assert_uint_eq(json_integer_value(json_object_get(entry, "depth")), status->depth);
    ck_assert_int_eq(json_is_true(json_object_get(entry, "zero")),
                     !!(status->flags & BLOCK_STATUS_ZERO));
    ck_assert_int_eq(json_is_true(json_object_get(entry, "data")),
                     !!(status->flags & BLOCK_STATUS_DATA));
    ck_assert_int_eq(json_is_true(json_object_get(entry, "present")),
                     !!(status->flags & BLOCK_STATUS_ALLOCATED));
    ck_assert_int_eq(offset != NULL, !!(status->flags & BLOCK_STATUS_OFFSET));
    if (offset)
        ck_assert_uint_eq(json_integer_value(offset), status->host);
}

static void assert_as_qemu(const char *name)
{
    struct block *block = open_image(name);
    struct block_info info;
    json_error_t error;
    json_t *map;
    size_t n = 0;

    scratch_ok("qemu-img map --output=json %s > map.json", name);
    map = json_load_file(scratch_path("map.json"), 0, &error);
    ck_assert_msg(map != NULL, "%s", error.text);

    block_get_info(block, &info);
    for (uint64_t off = 0; off < info.len;) {
        struct block_status all;
        struct block_status next;

        ck_assert_int_eq(block_get_status(block, off, info.len - off, false, &all), 0);
        while (off + all.len < info.len) {
            ck_assert_int_eq(
                block_get_status(block, off + all.len, info.len - off - all.len, false, &next), 0);
            ck_assert_uint_gt(next.len, 0);
            if (!joins(&all, &next))
                break;
            all.len += next.len;
        }
        assert_entry(json_array_get(map, n++), off, &all);
        off += all.len;
    }
    ck_assert_uint_eq(json_array_size(map), n);
    json_decref(map);
    ck_assert_int_eq(block_close(block), 0);
}

START_TEST(one_image_shows_data_zeroes_and_holes)
{
    scratch_ok("qemu-img create -q -f qcow2 a 64M && qemu-io -f qcow2 -c 'write 1M 300k' "
               "-c 'write 5M 1M' -c 'write -z 5300k 64k' -c 'write -z 40M 1M' "
               "-c 'write 50M 128k' -c 'write -zu 50M 64k' a >/dev/null");
    assert_as_qemu("a");
}
END_TEST

START_TEST(raw_image_shows_its_holes)
{
    scratch_ok("qemu-img create -q -f raw a 10M && "
               "qemu-io -f raw -c 'write 1M 64k' -c 'write 8M 1M' a >/dev/null");
    assert_as_qemu("a");
}
END_TEST

START_TEST(chain_shows_the_layer_that_knows)
{
    scratch_ok("qemu-img create -q -f raw base 3M && qemu-io -f raw -c 'write 512k 64k' "
               "-c 'write 2M 1M' base >/dev/null && "
               "qemu-img create -q -f qcow2 -b base -F raw mid 16M && "
               "qemu-io -f qcow2 -c 'write 1M 64k' -c 'write -z 2560k 64k' mid >/dev/null && "
               "qemu-img create -q -f qcow2 -b mid -F qcow2 top 32M && "
               "qemu-io -f qcow2 -c 'write 2M 64k' -c 'write 20M 1k' top >/dev/null");
    assert_as_qemu("base");
    assert_as_qemu("mid");
    assert_as_qemu("top");
}
END_TEST

START_TEST(own_layer_leaves_backing_files_out)
{
    struct block_status status;
    struct block *block;

    scratch_ok("qemu-img create -q -f raw base 1M && qemu-io -f raw -c 'write 0 1M' "
               "base >/dev/null && qemu-img create -q -f qcow2 -b base -F raw a");
    block = open_image("a");
    ck_assert_int_eq(block_get_status(block, 0, MIB, true, &status), 0);
    ck_assert_uint_eq(status.flags, 0);
    ck_assert_uint_eq(status.len, MIB);
    ck_assert_ptr_eq(status.layer, block);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

START_TEST(compressed_clusters_are_told_apart)
{
    struct block_status status;
    struct block *block;

    scratch_ok("qemu-img create -q -f qcow2 a 1M && "
               "qemu-io -f qcow2 -c 'write -c 0 64k' a >/dev/null");
    assert_as_qemu("a");
    block = open_image("a");
    ck_assert_int_eq(block_get_status(block, 512, MIB - 512, false, &status), 0);
    ck_assert_uint_eq(status.flags,
                      BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_DATA | BLOCK_STATUS_COMPRESSED);
    ck_assert_uint_eq(status.len, 65536 - 512);
    ck_assert_int_eq(block_close(block), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "status", scratch_set_up, scratch_tear_down,
                   one_image_shows_data_zeroes_and_holes, raw_image_shows_its_holes,
                   chain_shows_the_layer_that_knows, own_layer_leaves_backing_files_out,
                   compressed_clusters_are_told_apart);
}

UNIT_MAIN_BESIDE_QEMU("block_status", add_tests)
