/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address space layout randomisation of the kernel, as its own stub does it
 * (Linux, arch/x86/boot/compressed): what the command line says of it, and where to.
 */
#ifndef MINIVMM_BOOT_KASLR_X86_H
#define MINIVMM_BOOT_KASLR_X86_H

#include <stdint.h>

enum kaslr {
    KASLR_ON,
    KASLR_OFF,  /* nokaslr */
    KASLR_STUB, /* there are words that only the stub acts on */
};

enum kaslr kaslr_of_cmdline(const char *cmdline);

/*
 * How much higher than it was linked for the kernel runs: chosen by a random number, a multiple of
 * `align`, such that `len` bytes from the physical address `link_gpa` on stay in the GiB of virtual
 * addresses that Linux keeps for its image.
 */
uint64_t kaslr_choose_delta(uint64_t link_gpa, uint64_t len, uint64_t align, uint64_t random);

#endif
