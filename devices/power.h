/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest asks of the machine by its registers. The device calls; the machine acts on its
 * own thread later. Any vCPU thread.
 */
#ifndef MINIVMM_DEVICES_POWER_H
#define MINIVMM_DEVICES_POWER_H

enum power_request { POWER_REQUEST_OFF, POWER_REQUEST_RESET };

struct power_sink {
    void (*request)(struct power_sink *sink, enum power_request what);
};

#endif
