/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes between this terminal and a serial port, until one of them ends or a key detaches.
 */
#ifndef MINIVMM_CTL_RELAY_H
#define MINIVMM_CTL_RELAY_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"

struct relay {
    int in_fd; /* a terminal becomes raw meanwhile */
    int out_fd;
    int serial_fd;   /* non-blocking; closed at the end */
    char detach_key; /* of a terminal: a file may have that byte in it */
    bool detached;   /* at the end: that was why */
};

/*
 * Runs until the serial port is closed or a key detaches; the end of input alone ends nothing. The
 * terminal is as it was then, also when SIGINT, SIGTERM or SIGHUP ends the process. 0, or a
 * negative errno with *err filled.
 */
int relay_run(struct relay *relay, struct err *err) MUST_CHECK;

#endif
