/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one byte becomes, at most. */
#define ESCAPE_LEN 4u

void text_replace_control(char *text)
{
    for (char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;

        if (c < 0x20 || c == 0x7f)
            *p = '?';
    }
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* Bytes of the character that `text` begins with; 0: it is none. */
static size_t char_len(const unsigned char *text)
{
    size_t len = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;

    if (len == 1)
        return len;
    if (text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    /* Longer than need be, halves of surrogate pairs, and beyond the last character. */
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] >= 0xa0) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] >= 0x90))
        return 0;
    return len;
}

void text_replace_non_utf8(char *text)
{
    while (*text) {
        size_t len = char_len((const unsigned char *)text);

        if (len == 0) {
            *text = '?';
            len = 1;
        }
        text += len;
    }
}

/* ---- for terminals --------------------------------------------------------------------------- */

static bool controls(const unsigned char *text)
{
    return text[0] < ' ' || text[0] == 0x7f ||
           (text[0] == 0xc2 && text[1] < 0xa0); /* U+0080 to U+009F */
}

/* Bytes of the character that `text` begins with; 0: it is none, or one that controls. */
static size_t printable_len(const unsigned char *text)
{
    return controls(text) ? 0 : char_len(text);
}

/* `to` has room for ESCAPE_LEN times the text, and its end. */
static void escape(const char *text, bool lines, char *to)
{
    while (*text) {
        size_t len = printable_len((const unsigned char *)text);

        if (lines && *text == '\n')
            len = 1;
        if (len > 0) {
            memcpy(to, text, len);
            to += len;
        } else {
            len = 1;
            to += snprintf(to, ESCAPE_LEN + 1, "\\x%02x", (unsigned char)*text);
        }
        text += len;
    }
    *to = '\0';
}

char *text_escaped(const char *text, bool lines)
{
    char *copy = malloc(ESCAPE_LEN * strlen(text) + 1);

    if (copy)
        escape(text, lines, copy);
    return copy;
}
