/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What minivmm-img says on stderr: lines that begin with the name it was started by.
 */
#ifndef MINIVMM_IMG_MESSAGE_H
#define MINIVMM_IMG_MESSAGE_H

#include "base/compiler.h"

/* The name that the program was started by, without folders. */
extern const char *img_program;

/* Prints what is found and repaired. */
extern struct block_check_report img_check_report;

/* A line on stderr, after the name of the program. */
void img_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void img_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* What is wrong with the command line. Returns the exit status. */
int img_usage(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
