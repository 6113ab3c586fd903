/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm_stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"

int kvm_stats_open(int fd)
{
    int stats_fd = ioctl(fd, KVM_GET_STATS_FD, NULL);

    return stats_fd < 0 ? -errno : stats_fd;
}

/* All of the file from `off` on, `len` bytes, to be freed. NULL: errno says why. */
static void *read_part(int fd, size_t len, off_t off)
{
    void *part = malloc(len + 1); /* never 0, which may give NULL */
    ssize_t n = part ? pread(fd, part, len, off) : -1;

    if (n == (ssize_t)len)
        return part;
    if (n >= 0)
        errno = EIO;
    free(part);
    return NULL;
}

static const char *unit_of(uint32_t flags)
{
    switch (flags & KVM_STATS_UNIT_MASK) {
    case KVM_STATS_UNIT_BYTES:
        return "bytes";
    case KVM_STATS_UNIT_SECONDS:
        return "seconds";
    case KVM_STATS_UNIT_CYCLES:
        return "cycles";
    case KVM_STATS_UNIT_BOOLEAN:
        return "boolean";
    default:
        return NULL;
    }
}

/* Read the values of one and pass it on. A type newer than this program is passed over. */
static int pass_on(int stats_fd, const struct kvm_stats_header *header,
                   const struct kvm_stats_desc *desc,
                   void (*each)(void *opaque, const struct kvm_stat *stat), void *opaque)
{
    struct kvm_stat stat = {
        .name = desc->name,
        .type = (desc->flags & KVM_STATS_TYPE_MASK) >> KVM_STATS_TYPE_SHIFT,
        .unit = unit_of(desc->flags),
        .base = (desc->flags & KVM_STATS_BASE_MASK) == KVM_STATS_BASE_POW2 ? 2 : 10,
        .exponent = desc->exponent,
        .bucket_size = desc->bucket_size,
        .nvalues = desc->size,
    };
    uint64_t *values;

    if (stat.type > KVM_STAT_LOG2_HISTOGRAM)
        return 0;
    values = read_part(stats_fd, stat.nvalues * sizeof(*values),
                       (off_t)header->data_offset + desc->offset);
    if (!values)
        return -errno;
    stat.values = values;
    each(opaque, &stat);
    free(values);
    return 0;
}

int kvm_stats_read(int stats_fd, void (*each)(void *opaque, const struct kvm_stat *stat),
                   void *opaque)
{
    struct kvm_stats_header header;
    size_t desc_len;
    uint8_t *descs;
    int r = 0;

    if (pread(stats_fd, &header, sizeof(header), 0) != sizeof(header))
        return -EIO;
    desc_len = sizeof(struct kvm_stats_desc) + header.name_size;
    descs = read_part(stats_fd, desc_len * header.num_desc, header.desc_offset);
    if (!descs)
        return -errno;
    for (uint32_t i = 0; r == 0 && i < header.num_desc; i++)
        r = pass_on(stats_fd, &header, (const void *)(descs + i * desc_len), each, opaque);
    free(descs);
    return r;
}
