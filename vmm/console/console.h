/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of a port of the guest, serial port or console: stdio with escape keys, a pty, a
 * file, a unix socket, or nothing. Input and output run on the main loop; `write` may come from any
 * thread.
 *
 * Output is kept in a buffer that grows on demand up to CONSOLE_BUFFER_MAX. Above
 * CONSOLE_BUFFER_FULL the UART is told to be busy, so a guest that obeys it loses nothing however
 * slow the reader is; only a guest that ignores the busy bit for a very long time overruns it.
 * While nobody is connected (pty, unix socket), the guest is never held up: the latest
 * CONSOLE_BUFFER_FULL bytes are kept for whoever comes. On a unix socket, that is preceded by the
 * latest CONSOLE_SHOWN_MAX bytes that others were sent before; of a pty, console_shown has them.
 *
 * Two steps, so that a VM which cannot be set up leaves no trace: console_new only makes the object
 * that the UART is connected to, and console_start does all that others can see. Before that, the
 * console is as one that nobody is connected to.
 *
 * Locks: the chardev calls here take the console's own lock and never call the front end; the
 * front end is called without it, on the main thread. So a UART may call in under its lock.
 *
 * SIGPIPE must be ignored, and descriptors 0 to 2 must be open: a closed one would be given to the
 * next file, which may be a disk image.
 */
#ifndef MINIVMM_CONSOLE_CONSOLE_H
#define MINIVMM_CONSOLE_CONSOLE_H

#include "base/byte_queue.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/open_files.h"
#include "devices/chardev.h"
#include "vmm/config/config.h"

#define CONSOLE_BUFFER_FULL ((size_t)64 << 10)
#define CONSOLE_BUFFER_MAX ((size_t)1 << 20)
/* A screenful, with colours and the like. */
#define CONSOLE_SHOWN_MAX ((size_t)8 << 10)
/* Input that the guest has not taken: a generous paste. More is dropped. */
#define CONSOLE_INPUT_MAX ((size_t)64 << 10)
/* How long console_close waits for a reader that takes nothing. */
#define CONSOLE_CLOSE_STALL_MS 3000

/* What goes between the console and the life of the process. Main thread. */
struct console_events {
    void (*quit)(void *opaque); /* the user pressed Ctrl-A x (stdio only) */
    /*
     * Asked while console_close writes what is left: was the end asked for, so that a slow reader
     * may not keep what comes after it? NULL: never.
     */
    bool (*is_hurried)(void *opaque);
    void *opaque;
};

struct console;

/* The strings and the files stay the caller's. */
struct console_options {
    const char *name; /* what it is to people: "serial port" */
    enum serial_kind kind;
    const char *path; /* SERIAL_FILE, SERIAL_UNIX */
    /* Those of the VM, which are not written to. A file that is printed into becomes one. */
    struct open_files *files;
    struct loop *loop;
    struct console_events events;
    bool is_sized; /* the guest wants to know how large the terminal is */
};

/* 0, or a negative errno with *err filled. */
int console_new(const struct console_options *options, struct console **ret_console,
                struct err *err) MUST_CHECK;

/*
 * Open the file, socket or pty; with stdio on a terminal, make it raw. 0, or a negative errno with
 * *err filled, the terminal untouched, and nothing left to do but console_close.
 */
int console_start(struct console *console, struct err *err) MUST_CHECK;

/*
 * Write out what is left, as long as the reader takes some of it every CONSOLE_CLOSE_STALL_MS, or
 * for that long in all if it is hurried;
 * restore the terminal; free. Main thread, while the loop does not run; no thread writes any more.
 * NULL is fine.
 */
void console_close(struct console *console);

/* The pseudo-terminal's path, from console_start on; NULL: it is something else. */
const char *console_pty_name(const struct console *console);

/*
 * The end of what readers were sent; empty where that is not kept. It stays at this place, and
 * changes on the main thread.
 */
const struct byte_queue *console_shown(const struct console *console);

struct chardev *console_chardev(struct console *console);

/*
 * Put the terminal back as it was. Async-signal-safe and idempotent: for fatal-signal handlers
 * and atexit.
 */
void console_restore_terminal(void);

#endif
