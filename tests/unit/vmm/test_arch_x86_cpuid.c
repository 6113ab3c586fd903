/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "tests/lib/unit.h"
#include "vmm/arch_x86_cpuid.h"

#define INTEL_EBX 0x756e6547u
#define AMD_EBX 0x68747541u

static struct kvm_cpuid2 *table;

static void set_up(void)
{
    table = cpuid_new();
    ck_assert_ptr_nonnull(table);
}

static void tear_down(void)
{
    free(table);
}

static struct kvm_cpuid_entry2 *put(uint32_t function, uint32_t index)
{
    struct kvm_cpuid_entry2 *entry = &table->entries[table->nent++];

    ck_assert_uint_le(table->nent, CPUID_ENTRIES_MAX);
    *entry = (struct kvm_cpuid_entry2){.function = function, .index = index};
    return entry;
}

static const struct kvm_cpuid_entry2 *get(uint32_t function, uint32_t index)
{
    const struct kvm_cpuid_entry2 *found = NULL;

    for (uint32_t i = 0; i < table->nent; i++) {
        if (table->entries[i].function != function || table->entries[i].index != index)
            continue;
        ck_assert_msg(!found, "leaf %#x,%u twice", function, index);
        found = &table->entries[i];
    }
    return found;
}

/* What KVM on an Intel or AMD host reports, as far as it matters here. */
static void put_host(uint32_t vendor_ebx, uint32_t max_basic)
{
    struct kvm_cpuid_entry2 *leaf;

    leaf = put(0, 0);
    leaf->eax = max_basic;
    leaf->ebx = vendor_ebx;
    leaf = put(1, 0);
    leaf->ebx = 0x07100800; /* of the CPU that was asked: ID 7, 16 threads */
    leaf->edx = 1u << 28;
    put(4, 0)->eax = 0x1c004121; /* L1 data, 2 threads, 8 cores */
    put(4, 1)->eax = 0x1c03c163; /* L3, 16 threads */
    put(4, 2)->eax = 0;
    put(0xb, 0)->edx = 7;
    put(0xb, 1)->edx = 7;
    leaf = put(0x40000000, 0);
    leaf->eax = 0x40000001;
    memcpy(&leaf->ebx, "KVMK", 4);
    put(0x80000001, 0);
    put(0x80000008, 0)->eax = 0x3030;
    put(0x8000001d, 0)->eax = 0x00004121;
    put(0x8000001d, 3)->eax = 0x0003c163;
    put(0x8000001e, 0)->eax = 7;
    put(0x80000026, 0)->edx = 7;
}

static void describe(unsigned apic_id, unsigned ncpus)
{
    const struct cpuid_cpu cpu = {
        .apic_id = apic_id, .ncpus = ncpus, .tsc_khz = 2900000, .tsc_deadline_timer = true};

    ck_assert_int_eq(cpuid_describe_cpu(table, &cpu), 0);
}

START_TEST(features_name_this_cpu_and_the_hypervisor)
{
    put_host(INTEL_EBX, 0x16);
    describe(3, 4);
    ck_assert_uint_eq(get(1, 0)->ebx, 3u << 24 | 4u << 16 | 0x0800);
    ck_assert_uint_eq(get(1, 0)->ecx & (1u << 31 | 1u << 24 | 1u << 21),
                      1u << 31 | 1u << 24 | 1u << 21);
    ck_assert(get(1, 0)->edx & 1u << 28);
}
END_TEST

START_TEST(single_cpu_has_no_hyperthreading_bit)
{
    put_host(INTEL_EBX, 0x16);
    describe(0, 1);
    ck_assert(!(get(1, 0)->edx & 1u << 28));
    ck_assert_uint_eq(get(0xb, 1)->eax, 0);
    ck_assert_uint_eq(get(0xb, 1)->ebx, 1);
}
END_TEST

START_TEST(deadline_timer_is_told_only_where_kvm_has_it)
{
    const struct cpuid_cpu cpu = {.ncpus = 1, .tsc_khz = 1000000};

    put_host(INTEL_EBX, 0x16);
    table->entries[1].ecx = 1u << 24;
    ck_assert_int_eq(cpuid_describe_cpu(table, &cpu), 0);
    ck_assert(!(get(1, 0)->ecx & 1u << 24));
}
END_TEST

/* CPUs, and the bits of the APIC ID that tell cores apart. */
static const struct {
    unsigned ncpus;
    unsigned bits;
} sizes[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {8, 3}, {9, 4}, {64, 6}, {65, 7}, {255, 8}};

START_TEST(topology_is_one_package_of_single_threaded_cores)
{
    unsigned ncpus = sizes[_i].ncpus;

    put_host(INTEL_EBX, 0x1f);
    describe(ncpus - 1, ncpus);
    for (uint32_t function = 0xb; function <= 0x1f; function += 0x1f - 0xb) {
        const struct kvm_cpuid_entry2 *smt = get(function, 0), *core = get(function, 1);

        ck_assert_uint_eq(smt->eax, 0);
        ck_assert_uint_eq(smt->ebx, 1);
        ck_assert_uint_eq(smt->ecx, 0x100);
        ck_assert_uint_eq(core->eax, sizes[_i].bits);
        ck_assert_uint_eq(core->ebx, ncpus);
        ck_assert_uint_eq(core->ecx, 0x201);
        ck_assert_uint_eq(core->edx, ncpus - 1);
        ck_assert_uint_eq(get(function, 2)->ecx, 2);
        ck_assert(core->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    }
}
END_TEST

START_TEST(caches_are_shared_from_level_3_up)
{
    unsigned ids = (1u << sizes[_i].bits) - 1;
    unsigned cores = ids < 0x3f ? ids : 0x3f;

    put_host(INTEL_EBX, 0x16);
    describe(0, sizes[_i].ncpus);
    ck_assert_uint_eq(get(4, 0)->eax, 0x121 | cores << 26);
    ck_assert_uint_eq(get(4, 1)->eax, 0x163 | ids << 14 | cores << 26);
    ck_assert_uint_eq(get(4, 2)->eax, 0);
}
END_TEST

START_TEST(amd_leaves_describe_the_same_topology)
{
    put_host(AMD_EBX, 0x10);
    describe(5, 6);
    ck_assert_uint_eq(get(0x80000001, 0)->ecx, 1u << 1);
    ck_assert_uint_eq(get(0x80000008, 0)->ecx, 5 | 3u << 12);
    ck_assert_uint_eq(get(0x8000001d, 0)->eax, 0x121);
    ck_assert_uint_eq(get(0x8000001d, 3)->eax, 0x163 | 7u << 14);
    ck_assert_uint_eq(get(0x8000001e, 0)->eax, 5);
    ck_assert_uint_eq(get(0x8000001e, 0)->ebx, 5);
    ck_assert_ptr_null(get(0x80000026, 0));
    ck_assert_ptr_null(get(0x15, 0));
}
END_TEST

START_TEST(intel_keeps_amd_fields_reserved)
{
    put_host(INTEL_EBX, 0x16);
    describe(1, 2);
    ck_assert_uint_eq(get(0x80000001, 0)->ecx, 0);
    ck_assert_uint_eq(get(0x80000008, 0)->ecx, 0);
}
END_TEST

START_TEST(frequencies_are_told_in_both_leaves)
{
    const struct kvm_cpuid_entry2 *crystal, *timing;

    put_host(INTEL_EBX, 0x16);
    describe(0, 1);
    crystal = get(0x15, 0);
    ck_assert_uint_eq((uint64_t)crystal->ecx * crystal->ebx / crystal->eax, 2900000000ull);
    ck_assert_uint_eq(crystal->ecx, 1000000000);
    timing = get(0x40000010, 0);
    ck_assert_uint_eq(timing->eax, 2900000);
    ck_assert_uint_eq(timing->ebx, 1000000);
    ck_assert_uint_eq(get(0x40000000, 0)->eax, 0x40000010);
}
END_TEST

START_TEST(unknown_frequency_adds_no_leaf)
{
    const struct cpuid_cpu cpu = {.ncpus = 1};

    put_host(INTEL_EBX, 0x16);
    ck_assert_int_eq(cpuid_describe_cpu(table, &cpu), 0);
    ck_assert_ptr_null(get(0x15, 0));
    ck_assert_ptr_null(get(0x40000010, 0));
    ck_assert_uint_eq(get(0x40000000, 0)->eax, 0x40000001);
}
END_TEST

START_TEST(leaves_beyond_the_hosts_range_are_not_invented)
{
    put_host(INTEL_EBX, 0xa);
    describe(0, 2);
    ck_assert_ptr_null(get(0x15, 0));
    ck_assert_ptr_null(get(0x1f, 0));
    ck_assert_ptr_null(get(0xb, 2));
}
END_TEST

START_TEST(describing_twice_changes_nothing)
{
    uint32_t nent;

    put_host(INTEL_EBX, 0x1f);
    describe(2, 3);
    nent = table->nent;
    describe(2, 3);
    ck_assert_uint_eq(table->nent, nent);
}
END_TEST

START_TEST(full_table_is_an_error)
{
    const struct cpuid_cpu cpu = {.ncpus = 1, .tsc_khz = 1};

    put_host(INTEL_EBX, 0x16);
    while (table->nent < CPUID_ENTRIES_MAX)
        put(0x90000000 + table->nent, 0);
    ck_assert_int_eq(cpuid_describe_cpu(table, &cpu), -ENOSPC);
    ck_assert_uint_le(table->nent, CPUID_ENTRIES_MAX);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *sizes_case = tcase_create("sizes");

    unit_case_with(suite, "cpuid", set_up, tear_down, features_name_this_cpu_and_the_hypervisor,
                   single_cpu_has_no_hyperthreading_bit,
                   deadline_timer_is_told_only_where_kvm_has_it,
                   amd_leaves_describe_the_same_topology, intel_keeps_amd_fields_reserved,
                   frequencies_are_told_in_both_leaves, unknown_frequency_adds_no_leaf,
                   leaves_beyond_the_hosts_range_are_not_invented, describing_twice_changes_nothing,
                   full_table_is_an_error);
    tcase_add_checked_fixture(sizes_case, set_up, tear_down);
    tcase_add_loop_test(sizes_case, topology_is_one_package_of_single_threaded_cores, 0,
                        ARRAY_SIZE(sizes));
    tcase_add_loop_test(sizes_case, caches_are_shared_from_level_3_up, 0, ARRAY_SIZE(sizes));
    suite_add_tcase(suite, sizes_case);
}

UNIT_MAIN("arch_x86_cpuid", add_tests)
