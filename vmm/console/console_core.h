/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the back ends of the console share: a queue in each direction between the UART and a pair
 * of file descriptors that come and go. Private to vmm/console/; everything on the main thread.
 */
#ifndef MINIVMM_CONSOLE_CONSOLE_CORE_H
#define MINIVMM_CONSOLE_CONSOLE_CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/byte_queue.h"
#include "vmm/console/console.h"

struct console_ops {
    /* Open what the back end needs, and connect; `close` releases also what an error left open. */
    int (*start)(struct console *console, struct err *err);
    /* The input came to its end, or failed: disconnect, or console_end_input, or
     * set input_eof. */
    void (*input_ended)(struct console *console);
    /* The peer hung up while input is not read. */
    void (*hung_up)(struct console *console);
    /* Writing failed with errno `error`. */
    void (*output_failed)(struct console *console, int error);
    /*
     * Look at input before the guest sees it; returns how many of the bytes in `data` are left for
     * the guest. NULL: all.
     */
    size_t (*filter)(struct console *console, uint8_t *data, size_t len);
    /*
     * Release what the back end owns, started or not, and the console itself. Nothing is connected
     * any more.
     */
    void (*close)(struct console *console);
};

/* Embedded in the back end's own struct. */
struct console {
    struct chardev chardev;
    const struct console_ops *ops;
    struct console_events events; /* set by console_new, as are the next two */
    struct loop *loop;
    struct chardev_front *front; /* NULL: no guest */
    const char *name;            /* for messages */
    bool is_sized;               /* the size of the terminal is asked for */
    const char *pty_name;        /* see console_pty_name */

    struct loop_fd input; /* fd -1: none */
    struct loop_work input_work;
    struct byte_queue received; /* read and not yet taken by the guest */
    bool input_eof;             /* not read any more, but watched for a hang-up */
    bool input_unwatchable;     /* epoll refuses the descriptor: it is always ready */
    atomic_uint size;           /* of the terminal: columns << 16 | rows */
    bool input_always;          /* read even if the guest takes nothing: there may be escape keys */
    atomic_bool front_starved;  /* the front end had no room: accept_input shall wake us */

    struct loop_fd output; /* fd -1: none; watched only while it blocks */
    struct loop_work output_work;
    struct byte_queue sending; /* taken out of `queued`, so that writing needs no lock */
    size_t backlog_max;        /* what is kept while not connected */
    struct byte_queue shown;   /* the latest output that somebody was sent, for the next one */
    size_t shown_max;          /* 0: it is not kept */
    bool repeats;              /* the next one is sent that again */
    atomic_bool full;          /* the UART reports itself busy */
    bool stalled;              /* at the end: the reader took too little, so do not wait again */

    pthread_mutex_t lock; /* guards the rest */
    struct byte_queue queued;
    size_t nunsent; /* bytes in `queued` and `sending` */
    size_t nlost;   /* bytes that the buffer could not take */
    bool connected; /* somebody takes output */
};

/* Is the process to end soon? */
static inline bool console_is_hurried(const struct console_events *events)
{
    return events->is_hurried && events->is_hurried(events->opaque);
}

/* Fill in the common part. */
void console_init(struct console *console, const struct console_ops *ops, struct loop *loop);

/* Release the common part; nothing is connected. */
void console_done(struct console *console);

/*
 * Read input from `in_fd` and write output to `out_fd` from now on; -1: none. Two descriptors, as
 * they are watched separately. Output should not block. They stay the back end's. What was shown
 * before comes first, if it is kept and repeated.
 */
void console_connect(struct console *console, int in_fd, int out_fd);

/*
 * Stop to use the descriptors. What was on its way to the reader is dropped, but counts as shown.
 */
void console_disconnect(struct console *console);

/* Write out what is left as console_close says. The loop does not run. */
void console_drain(struct console *console);

/* Stop to read, and to notice a hang-up, until the guest takes input again. */
void console_suspend_input(struct console *console);

/* Stop to read for good; output goes on. */
void console_end_input(struct console *console);

/* The terminal behind `fd` has a size, maybe another one than before: tell the guest. */
void console_look_at_size(struct console *console, int fd);

/* Put text in front of the user, as if the guest had printed it. */
void console_print(struct console *console, const char *text);

#endif
