/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/reset_vector_x86.h"

#include <string.h>

#include "memory/layout_x86.h"

/* The keyboard controller's reset line: it is there with and without ACPI. */
#define I8042_PULSE_RESET 0xfe

void reset_vector_fill(uint8_t code[RESET_VECTOR_SIZE])
{
    static const uint8_t reset[] = {
        0xb0, I8042_PULSE_RESET,      /* mov $0xfe, %al */
        0xe6, X86_PORT_I8042_COMMAND, /* out %al, $0x64 */
        0xf4,                         /* 1: hlt */
        0xeb, 0xfd,                   /* jmp 1b */
    };

    memcpy(code, reset, sizeof(reset));
}
