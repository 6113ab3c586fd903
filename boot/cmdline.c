/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/cmdline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

/* Text that may be longer than there is room: it is cut off, and `len` counts on. */
struct text {
    char *dst;
    size_t size;
    size_t len;
};

static void append(struct text *text, const char *s)
{
    size_t at = min_u64(text->len, text->size);
    size_t len = strlen(s);

    memcpy(text->dst + at, s, min_u64(len, text->size - at));
    text->len += len;
}

static void append_device(struct text *text, const struct boot_virtio_mmio *virtio)
{
    char device[96]; /* three 64-bit numbers and 24 characters */

    (void)snprintf(device, sizeof(device),
                   "virtio_mmio.device=%" PRIu64 "K@%#" PRIx64 ":%" PRIu32 " ",
                   virtio->len / (uint64_t)KIB, virtio->gpa, virtio->gsi);
    append(text, device);
}

int cmdline_build(const struct boot_machine *machine, uint64_t max, char *dst, size_t size,
                  struct err *err)
{
    struct text text = {.dst = dst, .size = size};

    max = min_u64(max, size - 1);
    for (size_t i = 0; !machine->acpi && i < machine->nvirtio; i++)
        append_device(&text, &machine->virtio[i]);
    if (!machine->kaslr)
        append(&text, "nokaslr ");
    append(&text, machine->cmdline);

    if (text.len > max)
        return err_set(err, -E2BIG, "command line of %zu bytes: this kernel takes at most %" PRIu64,
                       text.len, max);
    dst[text.len] = '\0';
    return 0;
}
