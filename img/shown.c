/* SPDX-License-Identifier: Apache-2.0 */
#include "img/shown.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Texts in use at a time: those of one line. */
#define TEXTS_MAX 8u

/* What one byte becomes, at most. */
#define ESCAPE_LEN 4u

static bool is_terminal(FILE *f)
{
    int fd = fileno(f); /* a stream in memory has none */

    return fd >= 0 && isatty(fd);
}

/* Bytes of the character that `text` begins with; 0: it is none, or one that controls. */
static size_t printable_len(const unsigned char *text)
{
    size_t len = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;

    if (len == 1)
        return text[0] >= ' ' && text[0] != 0x7f;
    if (text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    return text[0] == 0xc2 && text[1] < 0xa0 ? 0 : len; /* U+0080 to U+009F */
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

static const char *show(FILE *f, const char *text, bool lines)
{
    static char *texts[TEXTS_MAX];
    static unsigned next;
    char **slot;

    if (!text || !is_terminal(f))
        return text;
    slot = &texts[next++ % TEXTS_MAX];
    free(*slot);
    *slot = malloc(ESCAPE_LEN * strlen(text) + 1);
    if (!*slot)
        return "(out of memory)";
    escape(text, lines, *slot);
    return *slot;
}

const char *shown(FILE *f, const char *text)
{
    return show(f, text, false);
}

const char *shown_lines(FILE *f, const char *text)
{
    return show(f, text, true);
}
