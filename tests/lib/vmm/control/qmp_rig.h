/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QMP server on a loop of the test's own thread, and clients of it on socket pairs.
 */
#ifndef MINIVMM_TESTS_QMP_RIG_H
#define MINIVMM_TESTS_QMP_RIG_H

#include "base/clock.h"
#include "base/loop.h"
#include "vmm/control/qmp.h"

/* After so long a client is stuck. */
#define QMP_RIG_PATIENCE_NS (100 * NS_PER_MS)

struct qmp_rig {
    struct loop *loop;
    struct qmp *qmp;
    const struct qmp_commands *tables[2]; /* the protocol's own, and the test's */
};

void qmp_rig_init(struct qmp_rig *rig, const struct qmp_commands *commands, void *opaque);
void qmp_rig_done(struct qmp_rig *rig);

/* Let the server do what there is to do. */
void qmp_rig_settle(struct qmp_rig *rig);

/* A client's end of a connection that has not negotiated, or has; close it. */
int qmp_rig_connect(struct qmp_rig *rig);
int qmp_rig_connect_negotiated(struct qmp_rig *rig);

void qmp_rig_send(int fd, const char *text);

/*
 * What came, as one text, valid until the next call; "" if nothing did, "EOF" at the end of the
 * connection.
 */
const char *qmp_rig_receive(struct qmp_rig *rig, int fd);

/* Both. */
const char *qmp_rig_ask(struct qmp_rig *rig, int fd, const char *text);

#endif
