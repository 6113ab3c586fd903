/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/seed_x86.h"

#include <string.h>

#include "base/bytes.h"
#include "base/random.h"

/* struct setup_data (Documentation/arch/x86/boot.rst). */
enum setup_data_offset {
    SETUP_DATA_NEXT = 0,
    SETUP_DATA_TYPE = 8,
    SETUP_DATA_LEN = 12,
    SETUP_DATA_BYTES = 16,
};

/* Newer than the kernel headers that this may be built with. */
#define SETUP_DATA_RNG_SEED 9u

_Static_assert(SEED_ENTRY_SIZE == SETUP_DATA_BYTES + SEED_LEN, "header and seed");

bool seed_fill(uint8_t entry[SEED_ENTRY_SIZE])
{
    memset(entry, 0, SEED_ENTRY_SIZE);
    if (!random_bytes(entry + SETUP_DATA_BYTES, SEED_LEN)) {
        memset(entry, 0, SEED_ENTRY_SIZE);
        return false;
    }
    store_le64(entry + SETUP_DATA_NEXT, 0);
    store_le32(entry + SETUP_DATA_TYPE, SETUP_DATA_RNG_SEED);
    store_le32(entry + SETUP_DATA_LEN, SEED_LEN);
    return true;
}
