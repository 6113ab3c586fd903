/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text from outside, in messages and on terminals.
 */
#ifndef MINIVMM_BASE_TEXT_H
#define MINIVMM_BASE_TEXT_H

#include <stdbool.h>

/*
 * Replace control characters by '?': a file name must not move the user's cursor or forge a second
 * line. Bytes from 0x80 up stay, they may be UTF-8.
 */
void text_replace_control(char *text);

/*
 * Replace each byte that is no part of a character in UTF-8 by '?': also of one that was cut off.
 */
void text_replace_non_utf8(char *text);

/*
 * A copy, to be freed, that a terminal shows and does not obey: control characters are written as
 * \x1b, and so is what is no UTF-8. Line ends stay if `lines`. NULL without memory.
 */
char *text_escaped(const char *text, bool lines);

#endif
