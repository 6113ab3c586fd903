/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts all the way: device, eventfd, KVM's I/O APIC, the guest's IDT, its handler.
 */
#include "memory/layout_x86.h"
#include "tests/lib/guest/guest_test.h"
#include "vmm/config/config.h"

#define VECTOR 0x40u

static int run_guest(struct guest *guest, struct vm *vm)
{
    const char *kernel = scratch_path("kernel");
    const char *const args[] = {"--kernel", kernel, "--memory", GUEST_MEMORY, NULL};

    guest_power_off(guest);
    guest_write_kernel(guest, kernel);
    guest_done(guest);
    return vm_run(vm, args);
}

START_TEST(handler_runs_for_each_edge)
{
    struct guest guest;
    struct vm vm;

    guest_init(&guest);
    guest_route_irq(&guest, X86_GSI_COM1, VECTOR);
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 4, 0x08, 0); /* modem control: OUT2 */
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 1, 0x02, 0); /* enable: transmitter empty */
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    for (unsigned i = 2; i <= 20; i++) {
        guest_op(&guest, GUEST_IN8, X86_PORT_COM1 + 2, 0, 0);
        guest_op(&guest, GUEST_OUT8, X86_PORT_COM1, 'a' + i, 0);
        guest_op(&guest, GUEST_WAIT_IRQ, i, 0, 0);
    }
    ck_assert_int_eq(run_guest(&guest, &vm), EXIT_POWER_OFF);
    ck_assert_uint_eq(vm.out.len, 19);
    vm_done(&vm);
}
END_TEST

START_TEST(handler_runs_for_vectors_of_all_priorities)
{
    struct guest guest;
    struct vm vm;

    guest_init(&guest);
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 4, 0x08, 0);
    guest_op(&guest, GUEST_OUT8, X86_PORT_COM1 + 1, 0x02, 0);
    for (unsigned i = 1; i <= 12; i++) {
        guest_route_irq(&guest, X86_GSI_COM1, GUEST_VECTOR_FIRST + 16 * i);
        guest_op(&guest, GUEST_IN8, X86_PORT_COM1 + 2, 0, 0);
        guest_op(&guest, GUEST_OUT8, X86_PORT_COM1, 'x', 0);
        guest_op(&guest, GUEST_WAIT_IRQ, i, 0, 0);
    }
    ck_assert_int_eq(run_guest(&guest, &vm), EXIT_POWER_OFF);
    vm_done(&vm);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "interrupts", handler_runs_for_each_edge,
              handler_runs_for_vectors_of_all_priorities);
}

GUEST_TEST_MAIN("guest interrupts", add_tests)
