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

struct rig_front {
    struct chardev_front ops;
    uint8_t data[1 << 18]; /* input that arrived */
    size_t len;
    size_t room; /* what can_receive returns */
    unsigned nbreaks;
    unsigned nwritable;
    bool quit; /* Ctrl-A x */
    bool hurried;
};

struct rig {
    struct open_files files; /* none, unless a test adds some */
    struct loop *loop;
    struct console *console;
    struct chardev *chardev;
    struct rig_front front;
    const char *path; /* in a folder of its own, which goes with the rig */
};

extern struct rig rig;

/* Fixture: a loop and a folder. */
void rig_setup(void);
void rig_teardown(void);

int rig_try_open(enum serial_kind kind, const char *path, struct err *err);
void rig_open(enum serial_kind kind, const char *path);
void rig_close(void);

/* Let the loop run until all that is ready is done. */
void rig_settle(void);

/* Let the loop run until `condition`, or fail after a long time: for what other threads do. */
#define rig_wait_for(condition)                                                                    \
    do {                                                                                           \
        for (unsigned rig_i_ = 0; rig_i_ < 5000 && !(condition); rig_i_++)                         \
            rig_settle();                                                                          \
        ck_assert(condition);                                                                      \
    } while (0)

/* How often the loop wakes up while nothing happens: at most RIG_IDLE_ROUNDS if all is well. */
#define RIG_IDLE_ROUNDS 3
unsigned rig_idle_rounds(void);

/* Let the UART have room for `room` bytes of input. */
void rig_give_room(size_t room);

/* The guest prints. */
void rig_print(const char *text);

/*
 * Write `len` bytes (at most 256) of a long pattern from *pos on, as a driver that obeys the UART:
 * false, and nothing is written, while it is busy.
 */
bool rig_print_pattern(size_t *pos, size_t len);

/* The guest prints the pattern from *pos on until the UART is busy and stays so. */
void rig_fill(size_t *pos);

/* Read what a non-blocking `fd` has, and check that it is the pattern from *pos on. */
void rig_check_pattern(int fd, size_t *pos);

/* The byte at `pos` of the pattern. */
uint8_t rig_pattern(size_t pos);

/* As read(), but 0 for errors. */
size_t rig_read(int fd, char *buf, size_t len);

/* The next read from `fd` returns exactly this text; "" for nothing. */
#define rig_assert_reads(fd, text)                                                                 \
    do {                                                                                           \
        char rig_buf_[1024];                                                                       \
        size_t rig_n_ = rig_read(fd, rig_buf_, sizeof(rig_buf_) - 1);                              \
                                                                                                   \
        rig_buf_[rig_n_] = '\0';                                                                   \
        ck_assert_str_eq(rig_buf_, text);                                                          \
    } while (0)

/* The guest prints a text, and it comes out of `fd`. */
#define rig_assert_prints(fd, text)                                                                \
    do {                                                                                           \
        rig_print(text);                                                                           \
        rig_settle();                                                                              \
        rig_assert_reads(fd, text);                                                                \
    } while (0)

/* All input so far; a terminal passes it on when the kernel gets round to it. */
#define rig_assert_received(text)                                                                  \
    do {                                                                                           \
        rig_wait_for(rig.front.len >= strlen(text));                                               \
        ck_assert_uint_eq(rig.front.len, strlen(text));                                            \
        ck_assert_mem_eq(rig.front.data, text, strlen(text));                                      \
    } while (0)

#endif
