/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM counts by itself, of a VM or a vCPU: exits by their reasons, those too that never come
 * to this process. Linux 5.14 and newer. Any thread.
 */
#ifndef MINIVMM_KVM_STATS_H
#define MINIVMM_KVM_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

enum kvm_stat_type {
    KVM_STAT_CUMULATIVE,
    KVM_STAT_INSTANT,
    KVM_STAT_PEAK,
    KVM_STAT_LINEAR_HISTOGRAM,
    KVM_STAT_LOG2_HISTOGRAM,
};

/* Its values, of which a histogram has several, are in units of base to the power of exponent. */
struct kvm_stat {
    const char *name;
    enum kvm_stat_type type;
    const char *unit; /* "bytes", "seconds", "cycles", "boolean"; NULL: it is a number */
    int base;         /* 2 or 10 */
    int exponent;
    uint32_t bucket_size; /* of a linear histogram */
    size_t nvalues;
    const uint64_t *values;
};

/*
 * A descriptor to read them from, which outlives the VM. `fd` is a VM's, or a vCPU's, on its own
 * thread. Or -errno.
 */
int kvm_stats_open(int fd) MUST_CHECK;

/* Call `each` for every one, as it is now. 0 or -errno. */
int kvm_stats_read(int stats_fd, void (*each)(void *opaque, const struct kvm_stat *stat),
                   void *opaque) MUST_CHECK;

#endif
