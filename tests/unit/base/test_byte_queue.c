/* SPDX-License-Identifier: Apache-2.0 */
#include "base/byte_queue.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"

static uint8_t pattern(size_t pos)
{
    return (uint8_t)(pos * 7 + pos / 256);
}

START_TEST(queue_keeps_order_and_limit)
{
    struct byte_queue queue = {0};
    uint64_t dice = 1;
    size_t in = 0;
    size_t out = 0;
    bool same = true;

    for (unsigned round = 0; round < 5000; round++) {
        size_t len = dice_roll(&dice, 300);
        uint8_t data[300];

        for (size_t i = 0; i < len; i++)
            data[i] = pattern(in + i);
        in += byte_queue_append(&queue, data, len, 20000);
        ck_assert_uint_le(queue.len, 20000);
        len = dice_roll(&dice, 300);
        len = len < queue.len ? len : queue.len;
        for (size_t i = 0; i < len; i++)
            same = same && byte_queue_front(&queue)[i] == pattern(out + i);
        ck_assert(same);
        byte_queue_consume(&queue, len);
        out += len;
        ck_assert_uint_eq(queue.len, in - out);
    }
    byte_queue_done(&queue);
}
END_TEST

START_TEST(drained_queue_gives_memory_back)
{
    struct byte_queue queue = {0};
    uint8_t data[1000] = {0};

    for (unsigned i = 0; i < 100; i++)
        ck_assert_uint_eq(byte_queue_append(&queue, data, sizeof(data), 1 << 20), sizeof(data));
    ck_assert_uint_ge(queue.capacity, 100000);
    byte_queue_consume(&queue, queue.len);
    ck_assert_uint_le(queue.capacity, BYTE_QUEUE_KEEP);
    byte_queue_done(&queue);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "queue", queue_keeps_order_and_limit, drained_queue_gives_memory_back);
}

UNIT_MAIN("byte_queue", add_tests)
