/* SPDX-License-Identifier: Apache-2.0 */
#include "img/shown.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"

/* Texts in use at a time: those of one line. */
#define TEXTS_MAX 8u

static bool is_terminal(FILE *f)
{
    int fd = fileno(f); /* a stream in memory has none */

    return fd >= 0 && isatty(fd);
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
    *slot = text_escaped(text, lines);
    return *slot ? *slot : "(out of memory)";
}

const char *shown(FILE *f, const char *text)
{
    return show(f, text, false);
}

const char *shown_lines(FILE *f, const char *text)
{
    return show(f, text, true);
}
