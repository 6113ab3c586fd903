/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/framer.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define CAPACITY_FIRST 512u

void framer_done(struct framer *framer)
{
    free(framer->text);
    *framer = (struct framer){.text = NULL};
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool append(struct framer *framer, char c)
{
    if (framer->len == framer->capacity) {
        size_t capacity = framer->capacity ? framer->capacity * 2 : CAPACITY_FIRST;
        char *text = capacity <= FRAMER_TEXT_MAX ? realloc(framer->text, capacity) : NULL;

        if (!text)
            return false;
        framer->text = text;
        framer->capacity = capacity;
    }
    framer->text[framer->len++] = c;
    return true;
}

bool framer_is_inside(const struct framer *framer)
{
    return framer->depth > 0;
}

/* Inside a text: where strings and brackets begin and end. False: nested too deep. */
static bool follow(struct framer *framer, char c)
{
    if (framer->in_string) {
        if (c == '"' && !framer->escaped)
            framer->in_string = false;
        framer->escaped = c == '\\' && !framer->escaped;
        return true;
    }
    if (c == '"')
        framer->in_string = true;
    else if (c == '{' || c == '[')
        framer->depth++;
    else if (c == '}' || c == ']')
        framer->depth--;
    return framer->depth <= FRAMER_DEPTH_MAX;
}

static void start_over(struct framer *framer)
{
    framer->len = 0;
    framer->depth = 0;
    framer->in_string = false;
    framer->escaped = false;
}

/* A byte between texts: whether one begins, or what else it is. */
static enum framer_result between(struct framer *framer, char c)
{
    if (framer->skips_line) {
        framer->skips_line = c != '\n';
        return FRAMER_MORE;
    }
    if (is_space(c))
        return FRAMER_MORE;
    framer->skips_line = true;
    return FRAMER_GARBAGE;
}

static enum framer_result feed_byte(struct framer *framer, char c)
{
    if (framer->depth == 0) {
        framer->len = 0;
        if (framer->skips_line || (c != '{' && c != '['))
            return between(framer, c);
    }
    if (!follow(framer, c) || !append(framer, c)) {
        start_over(framer);
        return FRAMER_TOO_LONG;
    }
    return framer->depth == 0 ? FRAMER_TEXT : FRAMER_MORE;
}

enum framer_result framer_feed(struct framer *framer, const char *data, size_t len,
                               size_t *ret_taken)
{
    for (size_t i = 0; i < len; i++) {
        enum framer_result result = feed_byte(framer, data[i]);

        if (result != FRAMER_MORE) {
            *ret_taken = i + 1;
            return result;
        }
    }
    *ret_taken = len;
    return FRAMER_MORE;
}
