/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A console between a loop and a UART made of arrays, for the console's tests.
 */
#ifndef MINIVMM_TESTS_CONSOLE_RIG_H
#define MINIVMM_TESTS_CONSOLE_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "vmm/console/console.h"

struct con_front {
    struct chardev_front ops;
    uint8_t data[1 << 18]; /* input that arrived */
    size_t len;
    size_t room; /* what can_receive returns */
    unsigned nbreaks;
    unsigned nwritable;
    unsigned nresized;
    bool quit; /* Ctrl-A x */
    bool hurried;
};

struct con_rig {
    struct open_files files; /* none, unless a test adds some */
    struct loop *loop;
    struct console *console;
    struct chardev *chardev;
    struct con_front front;
    const char *path; /* in a folder of its own, which goes with the rig */
};

extern struct con_rig con;

/* Fixture: a loop and a folder. */
void con_setup(void);
void con_teardown(void);

int con_try_open(enum serial_kind kind, const char *path, struct err *err);
void con_open(enum serial_kind kind, const char *path);
void con_close(void);

/* Let the loop run until all that is ready is done. */
void con_settle(void);

/* Let the loop run until `condition`, or fail after a long time: for what other threads do. */
#define con_wait_for(condition)                                                                    \
    do {                                                                                           \
        for (unsigned con_i_ = 0; con_i_ < 5000 && !(condition); con_i_++)                         \
            con_settle();                                                                          \
        ck_assert(condition);                                                                      \
    } while (0)

/* How often the loop wakes up while nothing happens: at most CON_IDLE_ROUNDS if all is well. */
#define CON_IDLE_ROUNDS 3
unsigned con_idle_rounds(void);

/* Let the UART have room for `room` bytes of input. */
void con_give_room(size_t room);

/* The guest prints. */
void con_print(const char *text);

/*
 * Write `len` bytes (at most 256) of a long pattern from *pos on, as a driver that obeys the UART:
 * false, and nothing is written, while it is busy.
 */
bool con_print_pattern(size_t *pos, size_t len);

/* The guest prints the pattern from *pos on until the UART is busy and stays so. */
void con_fill(size_t *pos);

/* Read what a non-blocking `fd` has, and check that it is the pattern from *pos on. */
void con_check_pattern(int fd, size_t *pos);

/* The byte at `pos` of the pattern. */
uint8_t con_pattern(size_t pos);

/* As read(), but 0 for errors. */
size_t con_read(int fd, char *buf, size_t len);

/* Wait until there is something to be read, which has left the console: a pty is slow. */
void con_wait_readable(int fd);

/* The next read from `fd` returns exactly this text; "" for nothing. */
#define con_assert_reads(fd, text)                                                                 \
    do {                                                                                           \
        char con_buf_[1024];                                                                       \
        size_t con_n_;                                                                             \
                                                                                                   \
        if (*(text) != '\0')                                                                       \
            con_wait_readable(fd);                                                                 \
        con_n_ = con_read(fd, con_buf_, sizeof(con_buf_) - 1);                                     \
        con_buf_[con_n_] = '\0';                                                                   \
        ck_assert_str_eq(con_buf_, text);                                                          \
    } while (0)

/* The guest prints a text, and it comes out of `fd`. */
#define con_assert_prints(fd, text)                                                                \
    do {                                                                                           \
        con_print(text);                                                                           \
        con_settle();                                                                              \
        con_assert_reads(fd, text);                                                                \
    } while (0)

/* All input so far; a terminal passes it on when the kernel gets round to it. */
#define con_assert_received(text)                                                                  \
    do {                                                                                           \
        con_wait_for(con.front.len >= strlen(text));                                               \
        ck_assert_uint_eq(con.front.len, strlen(text));                                            \
        ck_assert_mem_eq(con.front.data, text, strlen(text));                                      \
    } while (0)

#endif
