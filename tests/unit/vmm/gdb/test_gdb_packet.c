/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "vmm/gdb/packet.h"

static struct gdb_reader reader;
static struct gdb_reply reply;

static void set_up(void)
{
    memset(&reader, 0, sizeof(reader));
}

/* All of `bytes`, in pieces of `piece`: what came of the last one. */
static enum gdb_input feed_in_pieces(const char *bytes, size_t len, size_t piece)
{
    enum gdb_input input = GDB_INPUT_NONE;
    size_t at = 0;

    while (at < len) {
        size_t taken;

        input = gdb_reader_feed(&reader, bytes + at, min_u64(piece, len - at), &taken);
        ck_assert_uint_gt(taken, 0);
        at += taken;
    }
    return input;
}

static enum gdb_input feed(const char *bytes)
{
    return feed_in_pieces(bytes, strlen(bytes), SIZE_MAX);
}

START_TEST(packet_is_read_whole_and_byte_by_byte)
{
    ck_assert_int_eq(feed("$g#67"), GDB_INPUT_PACKET);
    ck_assert_str_eq(reader.data, "g");
    ck_assert_int_eq(feed_in_pieces("$m1000,4#8E", 11, 1), GDB_INPUT_PACKET);
    ck_assert_str_eq(reader.data, "m1000,4");
    ck_assert_int_eq(feed("$#00"), GDB_INPUT_PACKET);
    ck_assert_uint_eq(reader.len, 0);
}
END_TEST

START_TEST(what_is_between_packets_is_told_apart)
{
    ck_assert_int_eq(feed("+"), GDB_INPUT_ACK);
    ck_assert_int_eq(feed("-"), GDB_INPUT_NAK);
    ck_assert_int_eq(feed("\003"), GDB_INPUT_INTERRUPT);
    ck_assert_int_eq(feed("abc#\n"), GDB_INPUT_NONSENSE);
    ck_assert_int_eq(feed("$?#3f"), GDB_INPUT_PACKET);
}
END_TEST

START_TEST(wrong_sums_are_noticed)
{
    ck_assert_int_eq(feed("$g#68"), GDB_INPUT_BAD);
    ck_assert_int_eq(feed("$g#zz"), GDB_INPUT_BAD);
    ck_assert_int_eq(feed("$g#6z"), GDB_INPUT_BAD);
    ck_assert_int_eq(feed("$a}#de"), GDB_INPUT_BAD); /* nothing is escaped */
    ck_assert_int_eq(feed("$g#67"), GDB_INPUT_PACKET);
}
END_TEST

START_TEST(packet_that_breaks_off_is_replaced_by_the_next)
{
    ck_assert_int_eq(feed("$m1000"), GDB_INPUT_NONE);
    ck_assert_int_eq(feed("$g#67"), GDB_INPUT_PACKET);
    ck_assert_str_eq(reader.data, "g");
}
END_TEST

START_TEST(escaped_bytes_mean_themselves)
{
    /* } $ # of binary data; the sum is that of what is sent. */
    ck_assert_int_eq(feed("$}]}\x04}\x03#db"), GDB_INPUT_PACKET);
    ck_assert_str_eq(reader.data, "}$#");
}
END_TEST

START_TEST(longest_packet_fits_and_a_longer_one_is_bad)
{
    static char bytes[GDB_PACKET_MAX + 8];
    uint8_t sum = 0;

    for (unsigned extra = 0; extra < 2; extra++) {
        size_t len = GDB_PACKET_MAX + extra;

        bytes[0] = '$';
        memset(bytes + 1, 'a', len);
        sum = (uint8_t)(len * 'a');
        snprintf(bytes + 1 + len, 4, "#%02x", sum);
        ck_assert_int_eq(feed(bytes), extra ? GDB_INPUT_BAD : GDB_INPUT_PACKET);
        ck_assert_uint_eq(reader.len, GDB_PACKET_MAX);
    }
}
END_TEST

static void expect_reply(const char *expected)
{
    gdb_reply_end(&reply);
    ck_assert_uint_eq(reply.len, strlen(expected));
    ck_assert_mem_eq(reply.data, expected, reply.len);
}

START_TEST(replies_have_a_frame_and_a_sum)
{
    gdb_reply_begin(&reply);
    expect_reply("$#00");
    gdb_reply_begin(&reply);
    gdb_reply_text(&reply, "OK");
    expect_reply("$OK#9a");
    gdb_reply_begin(&reply);
    gdb_reply_format(&reply, "T%02x", 5u);
    gdb_reply_hex(&reply, "\x01\xfe", 2);
    expect_reply("$T0501fe#e5");
}
END_TEST

START_TEST(binary_is_escaped_and_ends_where_there_is_no_room)
{
    static char many[2 * GDB_PACKET_MAX];

    gdb_reply_begin(&reply);
    ck_assert_uint_eq(gdb_reply_binary(&reply, "a$#}*", 5), 5);
    expect_reply("$a}\x04}\x03}]}\n#c3");

    memset(many, '#', sizeof(many));
    gdb_reply_begin(&reply);
    ck_assert_uint_eq(gdb_reply_binary(&reply, many, sizeof(many)), GDB_PACKET_MAX / 2);
    gdb_reply_end(&reply);
    ck_assert_uint_eq(reply.len, GDB_PACKET_MAX + 4);
}
END_TEST

START_TEST(reply_that_does_not_fit_is_an_error)
{
    static const uint8_t many[GDB_PACKET_MAX];

    gdb_reply_begin(&reply);
    gdb_reply_hex(&reply, many, GDB_PACKET_MAX / 2);
    ck_assert(!reply.full);
    gdb_reply_text(&reply, "x");
    ck_assert(reply.full);
    expect_reply("$E07#ac");
}
END_TEST

START_TEST(numbers_have_up_to_16_digits)
{
    const char *text = "1aF,ffffffffffffffff;10000000000000000";
    uint64_t number;

    ck_assert(gdb_take_number(&text, &number));
    ck_assert_uint_eq(number, 0x1af);
    ck_assert(!gdb_take_number(&text, &number));
    ck_assert(gdb_take_char(&text, ','));
    ck_assert(gdb_take_number(&text, &number));
    ck_assert_uint_eq(number, UINT64_MAX);
    ck_assert(gdb_take_char(&text, ';'));
    ck_assert(!gdb_take_number(&text, &number));
    ck_assert(!gdb_take_char(&text, ';'));
    ck_assert_str_eq(text, "10000000000000000");
}
END_TEST

START_TEST(bytes_are_taken_all_or_none)
{
    const char *text = "00ff7g";
    uint8_t bytes[3] = {1, 1, 1};

    ck_assert(!gdb_take_bytes(&text, bytes, 3));
    ck_assert(!gdb_take_bytes(&text, bytes, 4));
    ck_assert_uint_eq(bytes[0], 1);
    ck_assert(gdb_take_bytes(&text, bytes, 2));
    ck_assert_mem_eq(bytes, "\x00\xff\x01", 3);
    ck_assert_str_eq(text, "7g");
    ck_assert(!gdb_take_bytes(&text, bytes, SIZE_MAX / 2));
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "input", set_up, NULL, packet_is_read_whole_and_byte_by_byte,
                   what_is_between_packets_is_told_apart, wrong_sums_are_noticed,
                   packet_that_breaks_off_is_replaced_by_the_next, escaped_bytes_mean_themselves,
                   longest_packet_fits_and_a_longer_one_is_bad);
    unit_case(suite, "output", replies_have_a_frame_and_a_sum,
              binary_is_escaped_and_ends_where_there_is_no_room,
              reply_that_does_not_fit_is_an_error);
    unit_case(suite, "text", numbers_have_up_to_16_digits, bytes_are_taken_all_or_none);
}

UNIT_MAIN("gdb_packet", add_tests)
