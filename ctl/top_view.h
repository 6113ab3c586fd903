/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rates of a VM (sample.h) as a page of a terminal.
 */
#ifndef MINIVMM_CTL_TOP_VIEW_H
#define MINIVMM_CTL_TOP_VIEW_H

#include <jansson.h>
#include <stdio.h>

/*
 * Print the page. Lines are at most `width` characters long, and there are at most `height` of
 * them; 0: as many as need be. What does not fit is left out: the least frequent exits, then rows
 * of CPUs, then of disks, and a line says how many.
 */
void top_view_print(const char *name, const json_t *rates, unsigned width, unsigned height,
                    FILE *out);

#endif
