/* SPDX-License-Identifier: Apache-2.0 */
#include "img/snapshot_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "img/shown.h"
#include "img/size.h"

static void print_date(const struct block_snapshot *snapshot)
{
    time_t seconds = snapshot->date_sec;
    char text[32] = "";
    struct tm tm;

    if (localtime_r(&seconds, &tm))
        (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    printf("%19s", text);
}

/* Time that the virtual machine has run. */
static void print_clock(uint64_t ns)
{
    uint64_t seconds = ns / 1000000000;

    printf("%02" PRIu64 ":%02u:%02u.%03u", seconds / 3600, (unsigned)(seconds / 60 % 60),
           (unsigned)(seconds % 60), (unsigned)(ns / 1000000 % 1000));
}

static void print_one(const struct block_snapshot *snapshot)
{
    char size[SIZE_TEXT_MAX];
    char icount[24] = "";

    if (snapshot->icount != UINT64_MAX)
        (void)snprintf(icount, sizeof(icount), "%" PRIu64, snapshot->icount);
    printf("%-9s %-16s %8s ", shown(stdout, snapshot->id), shown(stdout, snapshot->name),
           size_text(snapshot->vm_state_len, size));
    print_date(snapshot);
    putchar(' ');
    print_clock(snapshot->vm_clock_ns);
    printf(" %10s\n", icount);
}

void snapshot_list_print(const struct block_snapshot *list, unsigned n)
{
    if (n == 0)
        return;
    printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
           "VM CLOCK", "ICOUNT");
    for (unsigned i = 0; i < n; i++)
        print_one(&list[i]);
}
