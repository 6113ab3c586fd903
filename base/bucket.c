/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bucket.h"

#include "base/clock.h"

#define WAIT_MAX_NS (3600 * NS_PER_S)

void bucket_leak(struct bucket *bucket, double rate, double seconds)
{
    double leaked = rate * seconds;

    bucket->level = bucket->level > leaked ? bucket->level - leaked : 0;
}

uint64_t bucket_wait_ns(const struct bucket *bucket, double rate, double size)
{
    double ns = (bucket->level - size) / rate * (double)NS_PER_S;

    if (ns < 1)
        return 0;
    return ns < (double)WAIT_MAX_NS ? (uint64_t)ns + 1 : WAIT_MAX_NS;
}
