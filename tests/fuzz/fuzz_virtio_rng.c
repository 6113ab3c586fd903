/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-rng device on rings that are the input (hostile_rings.h): nothing outside guest memory
 * is written, and the device ends.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_rng.h"
#include "tests/lib/devices/virtio/hostile_rings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct virtio_rng_options options = {
        .loop = hostile_rings()->loop,
        .bps = size % 2 ? 0 : 10 * MIB,
    };
    struct virtio_dev *dev;

    if (virtio_rng_new(&options, hostile_rings()->mem, &dev) < 0)
        abort();
    hostile_rings_run(dev, data, size, NULL, NULL);
    return 0;
}
