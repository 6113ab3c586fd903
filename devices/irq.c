/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/irq.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int irq_init(struct irq *irq, uint32_t gsi)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        return -errno;
    irq->fd = fd;
    irq->gsi = gsi;
    return 0;
}

void irq_done(struct irq *irq)
{
    close(irq->fd);
    irq->fd = -1;
}

void irq_raise(struct irq *irq)
{
    /* Fails only when the counter is full; then an edge is pending anyway, and they merge. */
    (void)eventfd_write(irq->fd, 1);
}
