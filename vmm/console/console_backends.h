/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's serial port may be connected to: one back end per file, console_NAME.c. Each
 * function makes an object that console_start opens; NULL without memory.
 */
#ifndef MINIVMM_CONSOLE_CONSOLE_BACKENDS_H
#define MINIVMM_CONSOLE_CONSOLE_BACKENDS_H

#include "base/loop.h"
#include "base/open_files.h"

struct console;

struct console *console_stdio_new(struct loop *loop);
struct console *console_pty_new(struct loop *loop);
struct console *console_file_new(const char *path, struct open_files *files, struct loop *loop);
struct console *console_unix_new(const char *path, struct loop *loop);

#endif
