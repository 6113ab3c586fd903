/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a guest's request that fails on the host. */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_ON_ERROR_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_ON_ERROR_H

enum virtio_blk_on_error {
    VIRTIO_BLK_ERROR_REPORT,       /* the guest is told */
    VIRTIO_BLK_ERROR_STOP,         /* it is kept until the device was paused and goes on again */
    VIRTIO_BLK_ERROR_STOP_IF_FULL, /* so where only space is lacking; else the guest is told */
};

#endif
