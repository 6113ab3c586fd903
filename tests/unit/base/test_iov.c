/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/iov.h"
#include "tests/lib/unit.h"

/* "abc", nothing, "defgh", nothing, "i", nothing */
struct sample {
    char a[3];
    char b[5];
    char c[1];
    struct iovec iov[6];
};

#define SAMPLE_LEN 9u

static void sample_init(struct sample *s)
{
    memcpy(s->a, "abc", 3);
    memcpy(s->b, "defgh", 5);
    memcpy(s->c, "i", 1);
    s->iov[0] = (struct iovec){s->a, 3};
    s->iov[1] = (struct iovec){NULL, 0};
    s->iov[2] = (struct iovec){s->b, 5};
    s->iov[3] = (struct iovec){NULL, 0};
    s->iov[4] = (struct iovec){s->c, 1};
    s->iov[5] = (struct iovec){NULL, 0};
}

START_TEST(len_sums_elements)
{
    struct sample s;

    sample_init(&s);
    ck_assert_uint_eq(iov_len(s.iov, 6), SAMPLE_LEN);
    ck_assert_uint_eq(iov_len(s.iov, 1), 3);
    ck_assert_uint_eq(iov_len(NULL, 0), 0);
}
END_TEST

START_TEST(slice_skips_empty_elements)
{
    struct iovec dst[6];
    struct sample s;

    sample_init(&s);
    ck_assert_int_eq(iov_slice(s.iov, 6, 2, 7, dst, 6), 3);
    ck_assert_ptr_eq(dst[0].iov_base, s.a + 2);
    ck_assert_uint_eq(dst[0].iov_len, 1);
    ck_assert_ptr_eq(dst[1].iov_base, s.b);
    ck_assert_uint_eq(dst[1].iov_len, 5);
    ck_assert_ptr_eq(dst[2].iov_base, s.c);
    ck_assert_uint_eq(dst[2].iov_len, 1);
}
END_TEST

START_TEST(slice_refuses_what_is_outside)
{
    struct iovec dst[6];
    struct sample s;

    sample_init(&s);
    ck_assert_int_eq(iov_slice(s.iov, 6, 0, SAMPLE_LEN + 1, dst, 6), -EINVAL);
    ck_assert_int_eq(iov_slice(s.iov, 6, SAMPLE_LEN, 1, dst, 6), -EINVAL);
    ck_assert_int_eq(iov_slice(s.iov, 6, 1, SIZE_MAX, dst, 6), -EINVAL);
    ck_assert_int_eq(iov_slice(s.iov, 6, SIZE_MAX, 2, dst, 6), -EINVAL);
    ck_assert_int_eq(iov_slice(s.iov, 6, SAMPLE_LEN, 0, dst, 6), 0);
}
END_TEST

START_TEST(slice_says_when_it_needs_more_elements)
{
    struct iovec dst[6];
    struct sample s;

    sample_init(&s);
    ck_assert_int_eq(iov_slice(s.iov, 6, 0, SAMPLE_LEN, dst, 2), -E2BIG);
    ck_assert_int_eq(iov_slice(s.iov, 6, 0, SAMPLE_LEN, dst, 3), 3);
    ck_assert_int_eq(iov_slice(s.iov, 6, 3, 5, dst, 1), 1);
    ck_assert_int_eq(iov_slice(s.iov, 6, 3, 0, dst, 0), 0);
}
END_TEST

START_TEST(copies_stop_at_either_end)
{
    char buf[16] = {0};
    struct sample s;

    sample_init(&s);
    ck_assert_uint_eq(iov_to_buf(s.iov, 6, 0, buf, sizeof(buf)), SAMPLE_LEN);
    ck_assert_str_eq(buf, "abcdefghi");
    ck_assert_uint_eq(iov_to_buf(s.iov, 6, 7, buf, 1), 1);
    ck_assert_int_eq(buf[0], 'h');
    ck_assert_uint_eq(iov_to_buf(s.iov, 6, SAMPLE_LEN, buf, 1), 0);
    ck_assert_uint_eq(iov_to_buf(s.iov, 6, 100, buf, 1), 0);

    ck_assert_uint_eq(iov_from_buf(s.iov, 6, 2, "CDE", 3), 3);
    ck_assert_uint_eq(iov_from_buf(s.iov, 6, 8, "IJK", 3), 1);
    ck_assert_uint_eq(iov_to_buf(s.iov, 6, 0, buf, sizeof(buf)), SAMPLE_LEN);
    ck_assert_str_eq(buf, "abCDEfghI");
}
END_TEST

START_TEST(memset_keeps_neighbours)
{
    char buf[16] = {0};
    struct sample s;

    sample_init(&s);
    ck_assert_uint_eq(iov_memset(s.iov, 6, 2, '-', 2), 2);
    ck_assert_uint_eq(iov_memset(s.iov, 6, 8, '+', 5), 1);
    iov_to_buf(s.iov, 6, 0, buf, sizeof(buf));
    ck_assert_str_eq(buf, "ab--efgh+");
}
END_TEST

/* A slice copied out is the same as a copy from that offset. */
START_TEST(random_slices_agree_with_copies)
{
    unsigned seed = (unsigned)time(NULL);
    uint8_t data[64], direct[64], sliced[64];
    struct iovec iov[8], dst[8];

    printf("seed %u\n", seed);
    srand(seed);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    for (int round = 0; round < 2000; round++) {
        size_t total = 0;
        size_t off, len;
        int n;

        for (size_t i = 0; i < 8; i++) {
            iov[i].iov_base = data + (rand() % 56);
            iov[i].iov_len = (size_t)(rand() % 8);
            total += iov[i].iov_len;
        }
        off = (size_t)rand() % (total + 1);
        len = (size_t)rand() % (total - off + 1);
        n = iov_slice(iov, 8, off, len, dst, 8);
        ck_assert_int_ge(n, 0);
        ck_assert_uint_eq(iov_len(dst, (size_t)n), len);
        ck_assert_uint_eq(iov_to_buf(iov, 8, off, direct, len), len);
        ck_assert_uint_eq(iov_to_buf(dst, (size_t)n, 0, sliced, len), len);
        ck_assert_mem_eq(direct, sliced, len);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "iov", len_sums_elements, slice_skips_empty_elements,
              slice_refuses_what_is_outside, slice_says_when_it_needs_more_elements,
              copies_stop_at_either_end, memset_keeps_neighbours, random_slices_agree_with_copies);
}

UNIT_MAIN("iov", add_tests)
