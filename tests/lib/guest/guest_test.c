/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/guest_test.h"

/* Several machines one after the other, each with VM_TIMEOUT_S at worst. */
#define GUEST_TEST_TIMEOUT_S "240"

int guest_test_main(const char *name, void (*add_tests)(Suite *suite))
{
    vm_require();
    setenv("CK_DEFAULT_TIMEOUT", GUEST_TEST_TIMEOUT_S, 0);
    return unit_main(name, add_tests);
}
