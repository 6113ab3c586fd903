/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch_x86_cpuid.h"

#include <errno.h>
#include <stdlib.h>

/* Leaf 1. */
#define ECX1_X2APIC (1u << 21)
#define ECX1_TSC_DEADLINE (1u << 24)
#define ECX1_HYPERVISOR (1u << 31)
#define EDX1_HTT (1u << 28)

/* Leaf 0x80000001, ECX (AMD): the package has more than one core. */
#define ECX80000001_CMP_LEGACY (1u << 1)

/* Leaves 4 and 0x8000001D describe caches in the same form. */
#define CACHE_LEVEL(eax) ((eax) >> 5 & 7)
#define CACHE_SHARING_SHIFT 14
#define CACHE_SHARING_MAX 0xfffu
#define CACHE_CORES_SHIFT 26
#define CACHE_CORES_MAX 0x3fu
#define CACHE_LEVEL_SHARED 3 /* L3 and up belong to the package, L1 and L2 to one core */

/* Leaves 0xB and 0x1F, ECX bits 15–8. */
#define TOPO_LEVEL_SMT 1u
#define TOPO_LEVEL_CORE 2u

#define KVM_LEAF_SIGNATURE 0x40000000u
#define KVM_LEAF_TIMING 0x40000010u

#define VENDOR_INTEL_EBX 0x756e6547u /* "Genu" */

struct kvm_cpuid2 *cpuid_new(void)
{
    return calloc(1,
                  sizeof(struct kvm_cpuid2) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t function)
{
    for (uint32_t i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function == function && cpuid->entries[i].index == 0)
            return &cpuid->entries[i];
    return NULL;
}

static void remove_leaf(struct kvm_cpuid2 *cpuid, uint32_t function)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function != function)
            cpuid->entries[kept++] = cpuid->entries[i];
    cpuid->nent = kept;
}

static int add(struct kvm_cpuid2 *cpuid, const struct kvm_cpuid_entry2 *entry)
{
    if (cpuid->nent >= CPUID_ENTRIES_MAX)
        return -ENOSPC;
    cpuid->entries[cpuid->nent++] = *entry;
    return 0;
}

/* Bits of the APIC ID that number the cores of a package. */
static unsigned core_id_bits(unsigned ncpus)
{
    unsigned bits = 0;

    while (1u << bits < ncpus)
        bits++;
    return bits;
}

static uint32_t capped(uint32_t value, uint32_t max)
{
    return value < max ? value : max;
}

static void describe_features(struct kvm_cpuid_entry2 *leaf, const struct cpuid_cpu *cpu)
{
    uint32_t clflush_brand = leaf->ebx & 0xffff;

    leaf->ebx = cpu->apic_id << 24 | cpu->ncpus << 16 | clflush_brand;
    leaf->ecx |= ECX1_HYPERVISOR | ECX1_X2APIC;
    leaf->ecx &= ~ECX1_TSC_DEADLINE;
    if (cpu->tsc_deadline_timer)
        leaf->ecx |= ECX1_TSC_DEADLINE;
    leaf->edx &= ~EDX1_HTT;
    if (cpu->ncpus > 1)
        leaf->edx |= EDX1_HTT;
}

/* Who shares a cache; in leaf 4 also how many core IDs the package has. */
static void describe_cache(struct kvm_cpuid_entry2 *leaf, const struct cpuid_cpu *cpu)
{
    uint32_t ids = (1u << core_id_bits(cpu->ncpus)) - 1;
    uint32_t sharing = CACHE_LEVEL(leaf->eax) >= CACHE_LEVEL_SHARED ? ids : 0;

    if ((leaf->eax & 0x1f) == 0) /* type: no more caches */
        return;
    leaf->eax &= (1u << CACHE_SHARING_SHIFT) - 1;
    leaf->eax |= capped(sharing, CACHE_SHARING_MAX) << CACHE_SHARING_SHIFT;
    if (leaf->function == 4)
        leaf->eax |= capped(ids, CACHE_CORES_MAX) << CACHE_CORES_SHIFT;
}

/* Extended topology (Intel SDM 2A, CPUID leaf 0BH): threads of a core, cores of the package. */
static int describe_topology(struct kvm_cpuid2 *cpuid, uint32_t function,
                             const struct cpuid_cpu *cpu)
{
    const struct kvm_cpuid_entry2 levels[] = {
        {.eax = 0, .ebx = 1, .ecx = 0 | TOPO_LEVEL_SMT << 8},
        {.eax = core_id_bits(cpu->ncpus), .ebx = cpu->ncpus, .ecx = 1 | TOPO_LEVEL_CORE << 8},
        {.ecx = 2},
    };

    remove_leaf(cpuid, function);
    for (uint32_t i = 0; i < ARRAY_SIZE(levels); i++) {
        struct kvm_cpuid_entry2 entry = levels[i];
        int r;

        entry.function = function;
        entry.index = i;
        entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        entry.edx = cpu->apic_id;
        r = add(cpuid, &entry);
        if (r < 0)
            return r;
    }
    return 0;
}

static void describe_amd_topology(struct kvm_cpuid2 *cpuid, const struct cpuid_cpu *cpu)
{
    struct kvm_cpuid_entry2 *leaf;

    leaf = find(cpuid, 0x80000001);
    if (leaf) {
        leaf->ecx &= ~ECX80000001_CMP_LEGACY;
        if (cpu->ncpus > 1)
            leaf->ecx |= ECX80000001_CMP_LEGACY;
    }
    leaf = find(cpuid, 0x80000008); /* core count - 1 and width of core IDs */
    if (leaf)
        leaf->ecx = (cpu->ncpus - 1) | core_id_bits(cpu->ncpus) << 12;
    leaf = find(cpuid, 0x8000001e); /* IDs of the APIC, of the core, and of node 0 of 1 */
    if (leaf) {
        leaf->eax = cpu->apic_id;
        leaf->ebx = cpu->apic_id;
        leaf->ecx = 0;
    }
    /* The host's own arrangement of dies and complexes is not this machine's. */
    remove_leaf(cpuid, 0x80000026);
}

/* Leaf 0x15, on Intel only: TSC = crystal * EBX / EAX; the local APIC timer counts the crystal. */
static int describe_crystal(struct kvm_cpuid2 *cpuid, const struct cpuid_cpu *cpu)
{
    const struct kvm_cpuid_entry2 leaf = {
        .function = 0x15,
        .eax = CPUID_APIC_KHZ,
        .ebx = cpu->tsc_khz,
        .ecx = CPUID_APIC_KHZ * 1000u,
    };

    remove_leaf(cpuid, leaf.function);
    return add(cpuid, &leaf);
}

/* Leaf 0x40000010, the hypervisors' agreement: frequencies of TSC and local APIC in kHz. */
static int describe_timing(struct kvm_cpuid2 *cpuid, const struct cpuid_cpu *cpu)
{
    const struct kvm_cpuid_entry2 leaf = {
        .function = KVM_LEAF_TIMING,
        .eax = cpu->tsc_khz,
        .ebx = CPUID_APIC_KHZ,
    };
    struct kvm_cpuid_entry2 *signature = find(cpuid, KVM_LEAF_SIGNATURE);

    if (!signature)
        return 0;
    /* The highest leaf of the range; old hosts say 0 and mean 0x40000001. */
    if (signature->eax < leaf.function)
        signature->eax = leaf.function;
    remove_leaf(cpuid, leaf.function);
    return add(cpuid, &leaf);
}

int cpuid_describe_cpu(struct kvm_cpuid2 *cpuid, const struct cpuid_cpu *cpu)
{
    const struct kvm_cpuid_entry2 *basic = find(cpuid, 0);
    uint32_t max_basic = basic ? basic->eax : 0;
    bool intel = basic && basic->ebx == VENDOR_INTEL_EBX;
    int r = 0;

    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *leaf = &cpuid->entries[i];

        if (leaf->function == 1)
            describe_features(leaf, cpu);
        else if (leaf->function == 4 || leaf->function == 0x8000001d)
            describe_cache(leaf, cpu);
    }
    if (!intel)
        describe_amd_topology(cpuid, cpu);
    if (max_basic >= 0xb)
        r = describe_topology(cpuid, 0xb, cpu);
    if (r == 0 && max_basic >= 0x1f)
        r = describe_topology(cpuid, 0x1f, cpu);
    if (r == 0 && cpu->tsc_khz != 0 && intel && max_basic >= 0x15)
        r = describe_crystal(cpuid, cpu);
    if (r == 0 && cpu->tsc_khz != 0)
        r = describe_timing(cpuid, cpu);
    return r;
}
