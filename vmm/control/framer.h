/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of bytes cut into JSON texts, as a client of QMP sends them: objects one after the
 * other, with any white space, or none, between them. A text ends with the bracket that closes its
 * first one; whether what is inside is JSON is for the parser to say.
 */
#ifndef MINIVMM_CONTROL_FRAMER_H
#define MINIVMM_CONTROL_FRAMER_H

#include <stdbool.h>
#include <stddef.h>

/* Longest text, and how deep its brackets may be nested. The longest known request has 2 KiB. */
#define FRAMER_TEXT_MAX (64u << 10)
#define FRAMER_DEPTH_MAX 64u

enum framer_result {
    FRAMER_MORE,     /* everything was taken, and no text is complete */
    FRAMER_TEXT,     /* framer->text, of framer->len bytes, valid until the next call */
    FRAMER_GARBAGE,  /* no JSON begins like this: the rest of the line is passed over */
    FRAMER_TOO_LONG, /* longer or deeper than the limits, or there is no memory for it */
};

/* All zero is the beginning of a stream. */
struct framer {
    char *text;
    size_t len;
    size_t capacity;
    unsigned depth;
    bool in_string;
    bool escaped;
    bool skips_line;
};

/* Has a text begun that is not complete? */
bool framer_is_inside(const struct framer *framer);

void framer_done(struct framer *framer);

/* Go on with `len` bytes at `data`; *ret_taken is how many of them were used. */
enum framer_result framer_feed(struct framer *framer, const char *data, size_t len,
                               size_t *ret_taken);

#endif
