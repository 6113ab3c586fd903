#include "boot/cmdline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "vmm/base/bytes.h"

/* Text that may be longer than there is room: it is cut off, and `len` counts on. */
struct text {
    char *dst;
    size_t size;
    size_t len;
};

static void PRINTF_LIKE(2, 3) append(struct text *text, const char *fmt, ...)
{
    size_t at = min_u64(text->len, text->size);
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text->dst + at, text->size - at, fmt, ap);
    va_end(ap);
    text->len += n < 0 ? 0 : (size_t)n;
}

int cmdline_build(const struct boot_machine *machine, uint64_t max, char *dst, size_t size,
                  struct err *err)
{
    struct text text = {.dst = dst, .size = size};

    max = min_u64(max, size - 1);
    for (size_t i = 0; !machine->acpi && i < machine->nvirtio; i++) {
        const struct boot_virtio_mmio *virtio = &machine->virtio[i];

        append(&text, "virtio_mmio.device=%" PRIu64 "K@%#" PRIx64 ":%" PRIu32 " ",
               virtio->len / (uint64_t)KIB, virtio->gpa, virtio->gsi);
    }
    append(&text, "%s", machine->cmdline);

    if (text.len > max)
        return err_set(err, -E2BIG, "command line of %zu bytes: this kernel takes at most %" PRIu64,
                       text.len, max);
    return 0;
}
