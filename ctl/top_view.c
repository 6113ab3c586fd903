/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/top_view.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ctl/amount.h"
#include "ctl/answer.h"
#include "ctl/table.h"

/* Kinds of exits that are shown: as many as there are columns besides those of the CPU itself. */
#define REASONS_MAX (TABLE_COLUMNS_MAX - 2u)
/* What the columns of the CPU take, and a reason's besides its heading or number. */
#define CPU_WIDTH 12u
#define GAP 2u
#define NUMBER_WIDTH 4u
#define NARROWEST 40u

/* Lines that are not rows: the first two, headings, and blank lines before them. */
#define FRAME_LINES 6u

struct reason {
    const char *name;
    double rate; /* of all CPUs */
};

static double rate_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* ---- how it is as a whole -------------------------------------------------------------------- */

/* What the host knows; over TCP it is not known which process the VM is. */
static void add_process(struct table *table, const json_t *rates)
{
    uint64_t resident = answer_number(rates, "resident");
    uint64_t swapped = answer_number(rates, "swapped");
    char size[AMOUNT_MAX], swap[AMOUNT_MAX];

    if (resident == 0)
        table_add(table, "host CPU -, resident -");
    else
        table_add(table, "host CPU %.0f %%, resident %s%s%s", 100 * rate_of(rates, "cpu"),
                  amount_size(resident, size), swapped ? ", swapped " : "",
                  swapped ? amount_size(swapped, swap) : "");
}

static void print_summary(const char *name, const json_t *rates, unsigned width, FILE *out)
{
    const char *state = answer_text(rates, "state");
    bool is_known = answer_number(rates, "resident") > 0;
    char span[AMOUNT_MAX];
    struct table table;

    table_init(&table, 1, "");
    table_add(&table, "%s: %s, up %s", name, state ? state : "?",
              is_known ? amount_span(answer_number(rates, "uptime"), span) : "-");
    add_process(&table, rates);
    table_print(&table, width, out);
    table_done(&table);
}

/* ---- exits ----------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const struct reason *first = a;
    const struct reason *second = b;

    if (first->rate != second->rate)
        return first->rate > second->rate ? -1 : 1;
    return strcmp(first->name, second->name);
}

static double rate_of_all(const json_t *vcpus, const char *reason)
{
    double rate = 0;
    size_t i;
    const json_t *vcpu;

    json_array_foreach(vcpus, i, vcpu)
    {
        rate += rate_of(json_object_get(vcpu, "reasons"), reason);
    }
    return rate;
}

/* How many of the reasons have room in a line. */
static size_t how_many_fit(const struct reason *reasons, size_t n, unsigned width)
{
    size_t left = width > CPU_WIDTH ? width - CPU_WIDTH : 0;
    size_t fit = 0;

    n = min_u64(n, REASONS_MAX);
    if (width == 0)
        return n;
    for (; fit < n; fit++) {
        size_t len = strlen(reasons[fit].name);
        size_t column = GAP + (len > NUMBER_WIDTH ? len : NUMBER_WIDTH);

        if (column > left)
            break;
        left -= column;
    }
    return fit;
}

/* The columns of CPUs. */
struct columns {
    struct reason reasons[REASONS_MAX];
    size_t n;
    size_t ncut; /* have no room */
};

/*
 * Those that occur and have room, the most frequent ones first. All CPUs have the same. Without
 * memory there are none.
 */
static void find_columns(const json_t *vcpus, unsigned width, struct columns *ret_columns)
{
    json_t *reasons = json_object_get(json_array_get(vcpus, 0), "reasons");
    struct reason *all = calloc(json_object_size(reasons) + 1, sizeof(*all));
    const char *name;
    json_t *value;
    size_t n = 0;

    *ret_columns = (struct columns){.n = 0};
    if (!all)
        return;
    json_object_foreach(reasons, name, value)
    {
        double rate = rate_of_all(vcpus, name);

        if (rate > 0)
            all[n++] = (struct reason){name, rate};
    }
    qsort(all, n, sizeof(*all), compare);
    ret_columns->n = how_many_fit(all, n, width);
    ret_columns->ncut = n - ret_columns->n;
    memcpy(ret_columns->reasons, all, ret_columns->n * sizeof(*all));
    free(all);
}

/* ---- rows, the busiest first ----------------------------------------------------------------- */

struct row {
    const json_t *object;
    double rate;
    size_t index;
};

static int compare_rows(const void *a, const void *b)
{
    const struct row *first = a;
    const struct row *second = b;

    if (first->rate != second->rate)
        return first->rate > second->rate ? -1 : 1;
    return first->index < second->index ? -1 : 1;
}

/* To be freed; NULL without memory. */
static struct row *sort_rows(const json_t *array, double (*rate)(const json_t *object))
{
    struct row *rows = calloc(json_array_size(array) + 1, sizeof(*rows));

    for (size_t i = 0; rows && i < json_array_size(array); i++) {
        const json_t *object = json_array_get(array, i);

        rows[i] = (struct row){object, rate(object), i};
    }
    if (rows)
        qsort(rows, json_array_size(array), sizeof(*rows), compare_rows);
    return rows;
}

static double rate_of_vcpu(const json_t *vcpu)
{
    return rate_of(vcpu, "exits");
}

/* Requests, for which bytes count as well: a request is some KiB. */
static double rate_of_disk(const json_t *disk)
{
    return rate_of(disk, "rd_operations") + rate_of(disk, "wr_operations") +
           rate_of(disk, "flush_operations") +
           (rate_of(disk, "rd_bytes") + rate_of(disk, "wr_bytes")) / 4096;
}

static void add_rate(struct table *table, double rate)
{
    char buf[AMOUNT_MAX];

    table_add(table, "%s", amount_rate(rate, buf));
}

static void add_vcpu(struct table *table, const json_t *vcpu, const struct columns *columns)
{
    table_add(table, "%llu", (unsigned long long)answer_number(vcpu, "cpu"));
    add_rate(table, rate_of(vcpu, "exits"));
    for (size_t i = 0; i < columns->n; i++)
        add_rate(table, rate_of(json_object_get(vcpu, "reasons"), columns->reasons[i].name));
}

static void print_vcpus(const json_t *vcpus, const struct columns *columns, unsigned width,
                        size_t nrows, FILE *out)
{
    struct row *rows = sort_rows(vcpus, rate_of_vcpu);
    struct table table;

    table_init(&table, 2 + columns->n, ">CPU >EXITS/s > > > > > > > > > > > > > >");
    for (size_t i = 0; i < columns->n; i++)
        table_set_heading(&table, 2 + i, columns->reasons[i].name);
    for (size_t i = 0; rows && i < nrows; i++)
        add_vcpu(&table, rows[i].object, columns);
    fputc('\n', out);
    table_print(&table, width, out);
    table_done(&table);
    free(rows);
}

/* ---- disks ----------------------------------------------------------------------------------- */

static void add_bytes(struct table *table, double rate)
{
    char buf[AMOUNT_MAX];

    table_add(table, "%s", rate > 0 && rate < 1e18 ? amount_size((uint64_t)rate, buf) : "0");
}

static void print_disks(const json_t *disks, unsigned width, size_t nrows, FILE *out)
{
    struct row *rows = sort_rows(disks, rate_of_disk);
    struct table table;

    table_init(&table, 6, "DISK >READ/s >reads/s >WRITTEN/s >writes/s >flushes/s");
    for (size_t i = 0; rows && i < nrows; i++) {
        const json_t *disk = rows[i].object;

        table_add(&table, "%s", answer_shown(disk, "device"));
        add_bytes(&table, rate_of(disk, "rd_bytes"));
        add_rate(&table, rate_of(disk, "rd_operations"));
        add_bytes(&table, rate_of(disk, "wr_bytes"));
        add_rate(&table, rate_of(disk, "wr_operations"));
        add_rate(&table, rate_of(disk, "flush_operations"));
    }
    fputc('\n', out);
    table_print(&table, width, out);
    table_done(&table);
    free(rows);
}

/* ---------------------------------------------------------------------------------------------- */

/*
 * How many rows each table gets, with a line for what is cut, if that is not only for rows that are
 * cut. A machine has fewer disks than CPUs, so those come first.
 */
static void share(size_t *ncpus, size_t *ndisks, unsigned height, bool is_cut)
{
    size_t room = height > FRAME_LINES + 1 ? height - FRAME_LINES - 1 : 0;

    if (height == 0 || *ncpus + *ndisks <= room + !is_cut)
        return;
    *ndisks = min_u64(*ndisks, room / 2 > 0 ? room / 2 : room);
    *ncpus = min_u64(*ncpus, room - *ndisks);
}

static void say_what_is_cut(size_t nrows, size_t ncolumns, FILE *out)
{
    if (nrows == 0 && ncolumns == 0)
        return;
    fprintf(out, "cut off: ");
    if (nrows > 0)
        fprintf(out, "%zu row%s", nrows, nrows == 1 ? "" : "s");
    if (ncolumns > 0)
        fprintf(out, "%s%zu kind%s of exits", nrows > 0 ? ", " : "", ncolumns,
                ncolumns == 1 ? "" : "s");
    fputc('\n', out);
}

void top_view_print(const char *name, const json_t *rates, unsigned width, unsigned height,
                    FILE *out)
{
    const json_t *vcpus = json_object_get(rates, "vcpus");
    const json_t *disks = json_object_get(rates, "disks");
    size_t ncpus = json_array_size(vcpus);
    size_t ndisks = json_array_size(disks);
    uint64_t nleft = answer_number(rates, "left-out");
    struct columns columns;

    if (width > 0 && width < NARROWEST)
        width = NARROWEST; /* a terminal cuts it off itself */
    find_columns(vcpus, width, &columns);
    share(&ncpus, &ndisks, nleft > 0 && height > 1 ? height - 1 : height, columns.ncut > 0);
    print_summary(name, rates, width, out);
    if (ncpus > 0)
        print_vcpus(vcpus, &columns, width, ncpus, out);
    if (ndisks > 0)
        print_disks(disks, width, ndisks, out);
    say_what_is_cut(json_array_size(vcpus) - ncpus + json_array_size(disks) - ndisks, columns.ncut,
                    out);
    if (nleft > 0)
        fprintf(out, "%llu CPUs, counters or disks more are left out\n", (unsigned long long)nleft);
}
