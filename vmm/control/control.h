/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control sockets of a VM, and what clients may ask there: QMP.
 *
 * Lives as long as the process: a guest that is reset keeps its clients. The main thread only.
 */
#ifndef MINIVMM_CONTROL_CONTROL_H
#define MINIVMM_CONTROL_CONTROL_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"

struct control_options {
    struct loop *loop;
    const char *qmp; /* address of a socket; outlives the control; NULL: none */
};

struct control;

/* Listen. 0, or a negative errno with *err filled: no socket was made then. */
int control_new(const struct control_options *options, struct control **ret_control,
                struct err *err) MUST_CHECK;

/* Tell clients nothing more, and remove the sockets. NULL is fine. */
void control_free(struct control *control);

#endif
