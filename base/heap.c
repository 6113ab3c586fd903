/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap.h"

#include <malloc.h>

void heap_trim(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0); /* says whether there was any */
#endif
}
