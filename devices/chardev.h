/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of a character device, as an emulated UART or console sees it.
 * vmm/console/console_core.c implements it for stdio, ptys, files and sockets; unit tests do with
 * arrays.
 *
 * Locks: the front end calls the operations with its own lock held, and its callbacks take that
 * lock. So an operation never calls the front end, not even indirectly, and the back end calls the
 * front end while it holds no lock that an operation takes. The main loop's thread alone calls
 * the front end, so between can_receive and receive nobody else fills the room.
 */
#ifndef MINIVMM_DEVICES_CHARDEV_H
#define MINIVMM_DEVICES_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chardev;

/* What the front end (UART or console) provides; called on the main loop's thread. */
struct chardev_front {
    /* How many bytes of input can be taken now; 0 for as long as the guest does not listen. */
    size_t (*can_receive)(struct chardev_front *front);
    /* Take input, at most what can_receive returned just before. */
    void (*receive)(struct chardev_front *front, const uint8_t *data, size_t len);
    /* chardev_ops.is_full has answered true and would answer false now. */
    void (*writable)(struct chardev_front *front);
    /* A break condition from the host side. NULL: there is no such thing on this line. */
    void (*break_received)(struct chardev_front *front);
    /* What get_size answers has changed. NULL: the front end has no use for that. */
    void (*resized)(struct chardev_front *front);
};

/* Of a terminal; 0: not known. */
struct chardev_size {
    uint16_t columns;
    uint16_t rows;
};

struct chardev_ops {
    /*
     * Queue output; never blocks; any thread. It also takes bytes while is_full is true, up to a
     * documented bound, because some guests ignore the UART's busy bit; beyond that they are
     * dropped and a warning says so.
     */
    void (*write)(struct chardev *chardev, const uint8_t *data, size_t len);
    /* Should the UART report itself busy? Any thread. */
    bool (*is_full)(struct chardev *chardev);
    /* can_receive may have grown: ask it again, later, on the main thread. Any thread. */
    void (*accept_input)(struct chardev *chardev);
    /* How large the terminal is that the user looks at. Any thread. */
    struct chardev_size (*get_size)(struct chardev *chardev);
    /* Attach the front end, or detach with NULL. Main thread, while no vCPU runs. */
    void (*set_front)(struct chardev *chardev, struct chardev_front *front);
};

struct chardev {
    const struct chardev_ops *ops;
};

#endif
