/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "vmm/control/framer.h"

/* Texts, garbage (~) and refusals (!) of a stream, each followed by a bar. */
static void describe(const char *stream, size_t step, char *ret, size_t size)
{
    struct framer framer = {.text = NULL};
    size_t len = strlen(stream);
    size_t pos = 0, end;

    ret[0] = '\0';
    while (pos < len) {
        size_t part = len - pos < step ? len - pos : step;
        size_t taken;
        enum framer_result result = framer_feed(&framer, stream + pos, part, &taken);

        ck_assert_uint_le(taken, part);
        pos += taken;
        end = strlen(ret);
        if (result == FRAMER_TEXT)
            snprintf(ret + end, size - end, "%.*s|", (int)framer.len, framer.text);
        else if (result != FRAMER_MORE)
            snprintf(ret + end, size - end, "%s", result == FRAMER_GARBAGE ? "~|" : "!|");
    }
    framer_done(&framer);
}

START_TEST(streams_are_cut_into_texts)
{
    static const struct {
        const char *stream;
        const char *texts;
    } cases[] = {
        {"", ""},
        {"{}", "{}|"},
        {"{}{}", "{}|{}|"},
        {" {\"a\": 1}\r\n\t[2]\n", "{\"a\": 1}|[2]|"},
        {"{\"a\": {\"b\": [{}]}}", "{\"a\": {\"b\": [{}]}}|"},
        {"{\"}\": \"\\\"}{\"}", "{\"}\": \"\\\"}{\"}|"},
        {"{\"\\\\\": 1}{}", "{\"\\\\\": 1}|{}|"},
        {"{\"a\": ", ""},
        {"{]{}", "{]|{}|"},
        {"help {}\n{}", "~|{}|"},
        {"}{}\n{}", "~|{}|"},
        {"\"a\"\n\"b\"\n", "~|~|"},
    };
    char texts[256];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t step = 1; step <= 16; step *= 4) {
            describe(cases[i].stream, step, texts, sizeof(texts));
            ck_assert_str_eq(texts, cases[i].texts);
        }
    }
}
END_TEST

static enum framer_result feed_many(struct framer *framer, char c, size_t n)
{
    enum framer_result result = FRAMER_MORE;
    size_t taken;

    for (size_t i = 0; i < n && result == FRAMER_MORE; i++)
        result = framer_feed(framer, &c, 1, &taken);
    return result;
}

START_TEST(text_is_refused_at_the_limits)
{
    struct framer framer = {.text = NULL};
    size_t taken;

    ck_assert_int_eq(feed_many(&framer, '[', FRAMER_DEPTH_MAX), FRAMER_MORE);
    ck_assert_int_eq(feed_many(&framer, '[', 1), FRAMER_TOO_LONG);
    /* The stream goes on as if nothing had been there. */
    ck_assert_int_eq(framer_feed(&framer, "{\"", 2, &taken), FRAMER_MORE);
    ck_assert_int_eq(feed_many(&framer, 'x', FRAMER_TEXT_MAX - 4), FRAMER_MORE);
    ck_assert_int_eq(framer_feed(&framer, "\"}", 2, &taken), FRAMER_TEXT);
    ck_assert_uint_eq(framer.len, FRAMER_TEXT_MAX);
    ck_assert_int_eq(framer_feed(&framer, "{\"", 2, &taken), FRAMER_MORE);
    ck_assert_int_eq(feed_many(&framer, 'x', FRAMER_TEXT_MAX), FRAMER_TOO_LONG);
    framer_done(&framer);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "framer", streams_are_cut_into_texts, text_is_refused_at_the_limits);
}

UNIT_MAIN("framer", add_tests)
