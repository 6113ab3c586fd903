/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/host_calls.h"
#include "tests/lib/unit.h"

/* More than the host gives in one piece when signals come. */
static uint8_t first[64 * KIB], second[64 * KIB];

static unsigned zeroes(const uint8_t *data, size_t len)
{
    unsigned n = 0;

    for (size_t i = 0; i < len; i++)
        n += data[i] == 0;
    return n;
}

START_TEST(all_bytes_are_filled_and_never_the_same_ones)
{
    ck_assert(random_bytes(first, sizeof(first)));
    ck_assert(random_bytes(second, sizeof(second)));
    ck_assert_mem_ne(first, second, sizeof(first));
    /* One of 256 bytes is zero: 256, with a standard deviation of 16. */
    ck_assert_uint_lt(zeroes(first, sizeof(first)), 256 + 10 * 16);
    ck_assert(zeroes(first + sizeof(first) - 16, 16) < 16);
}
END_TEST

START_TEST(a_signal_is_no_failure)
{
    host_calls[HOST_RANDOM] = (struct host_call){.fail = 3, .error = EINTR};
    ck_assert(random_bytes(first, 16));
    ck_assert_uint_eq(host_calls[HOST_RANDOM].count, 4);
    host_calls_reset();
}
END_TEST

START_TEST(a_host_without_random_bytes_says_so)
{
    host_calls[HOST_RANDOM] = (struct host_call){.fail = 1, .error = EAGAIN};
    ck_assert(!random_bytes(first, 16));
    host_calls_reset();
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "bytes", all_bytes_are_filled_and_never_the_same_ones, a_signal_is_no_failure,
              a_host_without_random_bytes_says_so);
}

UNIT_MAIN("random", add_tests)
