/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/unpack.h"
#include "tests/lib/boot/packed_kernel.h"
#include "tests/lib/unit.h"

#define SMALL 1000u

static struct err err;

/* Neither zeros nor noise. */
static uint8_t *make_data(size_t len)
{
    uint8_t *data = malloc(len);

    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * i >> 5);
    return data;
}

/* Unpack into `room` bytes, which nothing may be written behind. */
static int try_unpack(const uint8_t *packed, size_t len, size_t room, uint8_t **ret_dst,
                      size_t *ret_len)
{
    uint8_t *dst = malloc(room + 1);
    int r;

    ck_assert_ptr_nonnull(dst);
    dst[room] = 0x5a;
    r = unpack(packed, len, dst, room, ret_len, &err);
    ck_assert_uint_eq(dst[room], 0x5a);
    if (r == 0 && ret_dst)
        *ret_dst = dst;
    else
        free(dst);
    return r;
}

static void check_round_trip(enum test_packing packing, size_t len)
{
    uint8_t *data = make_data(len), *dst = NULL;
    size_t packed_len, got;
    uint8_t *packed = test_pack(packing, data, len, &packed_len);

    ck_assert_msg(try_unpack(packed, packed_len, len + 100, &dst, &got) == 0, "packing %d: %s",
                  packing, err.msg);
    ck_assert_uint_eq(got, len);
    ck_assert_mem_eq(dst, data, len);
    free(dst);

    /* Room for all of it is enough, one byte less is not. */
    ck_assert_int_eq(try_unpack(packed, packed_len, len, NULL, &got), 0);
    ck_assert_int_eq(try_unpack(packed, packed_len, len - 1, NULL, &got), -EINVAL);
    free(packed);
    free(data);
}

START_TEST(each_packing_is_unpacked)
{
    for (unsigned packing = 0; packing < TEST_PACKINGS; packing++) {
        check_round_trip(packing, 1);
        check_round_trip(packing, SMALL);
        check_round_trip(packing, 3 * MIB + 5);
    }
}
END_TEST

START_TEST(several_lz4_blocks_are_put_together)
{
    check_round_trip(TEST_PACKED_LZ4, 8 * MIB);
    check_round_trip(TEST_PACKED_LZ4, 8 * MIB + 1);
    check_round_trip(TEST_PACKED_LZ4, 24 * MIB + 1000);
}
END_TEST

START_TEST(another_size_than_announced_is_refused)
{
    uint8_t *data = make_data(SMALL);

    for (unsigned packing = 0; packing < TEST_PACKINGS; packing++) {
        static const uint32_t sizes[] = {0, 1, SMALL - 1, SMALL + 1, 1u << 30, UINT32_MAX};
        size_t len, got;
        uint8_t *packed = test_pack(packing, data, SMALL, &len);

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            store_le32(packed + len - 4, sizes[i]);
            ck_assert_int_eq(try_unpack(packed, len, (size_t)2 * SMALL, NULL, &got), -EINVAL);
        }
        free(packed);
    }
    free(data);
}
END_TEST

START_TEST(truncated_data_are_refused)
{
    uint8_t *data = make_data(SMALL);

    for (unsigned packing = 0; packing < TEST_PACKINGS; packing++) {
        size_t len, got;
        uint8_t *packed = test_pack(packing, data, SMALL, &len);

        for (size_t cut = 0; cut < len - 4; cut += 7) {
            uint8_t tail[4];

            memcpy(tail, packed + cut, 4);
            store_le32(packed + cut, SMALL);
            ck_assert_int_lt(try_unpack(packed, cut + 4, SMALL, NULL, &got), 0);
            memcpy(packed + cut, tail, 4);
        }
        ck_assert_int_eq(try_unpack(packed, len, SMALL, NULL, &got), 0);
        free(packed);
    }
    free(data);
}
END_TEST

/* LZ4 and gzip do not notice each change; none writes where it must not. */
START_TEST(changed_bytes_do_no_harm)
{
    uint8_t *data = make_data(SMALL);

    for (unsigned packing = 0; packing < TEST_PACKINGS; packing++) {
        size_t len, got;
        uint8_t *packed = test_pack(packing, data, SMALL, &len);

        for (size_t i = 0; i < len; i++) {
            packed[i] ^= (uint8_t)(1u << i % 8);
            (void)try_unpack(packed, len, SMALL, NULL, &got);
            packed[i] ^= (uint8_t)(1u << i % 8);
        }
        free(packed);
    }
    free(data);
}
END_TEST

START_TEST(other_packings_are_named)
{
    static const uint8_t bzip2[] = {0x42, 0x5a, 0x68, 0x39, 0, 0, 0, 0, 0x10, 0, 0, 0};
    static const uint8_t short_one[] = {0x28, 0xb5, 0x2f};
    size_t got;

    ck_assert_int_eq(try_unpack(bzip2, sizeof(bzip2), SMALL, NULL, &got), -ENOTSUP);
    ck_assert_ptr_nonnull(strstr(err.msg, "unknown way: 0x425a"));
    for (size_t len = 0; len <= sizeof(short_one); len++)
        ck_assert_int_eq(try_unpack(short_one, len, SMALL, NULL, &got), -EINVAL);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "good", each_packing_is_unpacked, several_lz4_blocks_are_put_together);
    unit_case(suite, "bad", another_size_than_announced_is_refused, truncated_data_are_refused,
              changed_bytes_do_no_harm, other_packings_are_named);
}

UNIT_USES_THREADS;
UNIT_MAIN("unpack", add_tests)
