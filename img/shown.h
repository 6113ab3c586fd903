/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and texts that come from images and file names, as they are shown. They can be anything: on
 * a terminal control characters in them would be obeyed.
 */
#ifndef MINIVMM_IMG_SHOWN_H
#define MINIVMM_IMG_SHOWN_H

#include <stdbool.h>
#include <stdio.h>

/*
 * The text as it is to be printed into `f`: as it is, for a script; on a terminal control
 * characters are written as \x1b, and so is what is no UTF-8. Valid until the eighth call after
 * this one.
 */
const char *shown(FILE *f, const char *text);

/* The same, with line ends left as they are: for messages of several lines. */
const char *shown_lines(FILE *f, const char *text);

#endif
