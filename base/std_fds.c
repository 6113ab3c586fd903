/* SPDX-License-Identifier: Apache-2.0 */
#include "base/std_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void std_fds_fill(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static int compare(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

    return (x > y) - (x < y);
}

void std_fds_close_others(unsigned *kept, size_t n)
{
    unsigned from = STDERR_FILENO + 1;

    qsort(kept, n, sizeof(kept[0]), compare);
    for (size_t i = 0; i < n; i++) {
        if (kept[i] > from)
            (void)close_range(from, kept[i] - 1, 0);
        if (kept[i] >= from)
            from = kept[i] + 1;
    }
    (void)close_range(from, UINT_MAX, 0);
}

int std_fds_flush_output(void)
{
    bool lost = ferror(stdout) != 0;

    if (fflush(stdout) != 0)
        return -errno;
    return lost ? -EIO : 0;
}
