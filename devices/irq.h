/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interrupt line, edge-triggered: an eventfd that KVM (irqfd) or a test listens to.
 * Any thread may raise it.
 */
#ifndef MINIVMM_DEVICES_IRQ_H
#define MINIVMM_DEVICES_IRQ_H

#include <stdint.h>

#include "base/compiler.h"

struct irq {
    int fd;       /* eventfd, non-blocking */
    uint32_t gsi; /* global system interrupt it is wired to */
};

/* 0 or -errno. */
int irq_init(struct irq *irq, uint32_t gsi) MUST_CHECK;
void irq_done(struct irq *irq);

/* One edge. Edges that arrive before the guest looked merge into one. */
void irq_raise(struct irq *irq);

#endif
