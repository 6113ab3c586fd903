/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text from outside in one-line messages.
 */
#ifndef MINIVMM_BASE_TEXT_H
#define MINIVMM_BASE_TEXT_H

/*
 * Replace control characters by '?': a file name must not move the user's cursor or forge a second
 * line. Bytes from 0x80 up stay, they may be UTF-8.
 */
void text_replace_control(char *text);

#endif
