/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID tells the guest: KVM's list of what this host supports, made to describe this machine
 * and one of its CPUs. Works on the table only; arch_x86.c gets it from KVM and hands it back.
 */
#ifndef MINIVMM_ARCH_X86_CPUID_H
#define MINIVMM_ARCH_X86_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

#define CPUID_ENTRIES_MAX 256u /* KVM_MAX_CPUID_ENTRIES in the kernel */

/* The bus clock of KVM's local APIC: one tick each nanosecond. */
#define CPUID_APIC_KHZ 1000000u

struct cpuid_cpu {
    unsigned apic_id; /* 0 to ncpus - 1 */
    unsigned ncpus;   /* cores of the one package, one thread each */
    uint32_t tsc_khz; /* 0: unknown */
    bool tsc_deadline_timer;
};

/* A table with room for CPUID_ENTRIES_MAX entries, none used. Free with free(). */
struct kvm_cpuid2 *cpuid_new(void);

/* Change `cpuid`, the host's, to what `cpu` shall see. 0, or -ENOSPC: no room for new leaves. */
int cpuid_describe_cpu(struct kvm_cpuid2 *cpuid, const struct cpuid_cpu *cpu) MUST_CHECK;

#endif
