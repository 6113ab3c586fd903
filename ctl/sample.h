/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM has done so far, asked twice, and what it does per second in between.
 */
#ifndef MINIVMM_CTL_SAMPLE_H
#define MINIVMM_CTL_SAMPLE_H

#include <jansson.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "ctl/link.h"

/* CPUs and disks that are taken note of, and kinds of exits of each CPU. */
#define SAMPLE_ROWS_MAX 1024u
#define SAMPLE_REASONS_MAX 256u

struct sample {
    uint64_t time_ns;
    uint64_t uptime_s;
    uint64_t cpu_ns;
    uint64_t resident;
    uint64_t swapped;
    json_t *status; /* as query-status, query-stats of vCPUs and query-blockstats return it, */
    json_t *vcpus;  /* or NULL */
    json_t *disks;
};

/* 0, or a negative errno with *err filled. What the VM cannot be asked for is NULL. */
int sample_take(struct link *link, struct sample *ret_sample, struct err *err) MUST_CHECK;
void sample_done(struct sample *sample);

/*
 * An object, to be freed:
 *
 *   state, seconds (between the samples), uptime, resident, swapped (bytes),
 *   cpu (CPUs of the host that were in use, as a fraction: 1.5),
 *     these four are 0 where it is not known which process the VM is,
 *   vcpus: [{cpu, exits (per second), reasons: {NAME: per second}}],
 *   disks: [{device, rd_bytes, rd_operations, wr_bytes, wr_operations, flush_operations}], all per
 *   second,
 *   left-out: how many CPUs, counters of exits and disks there was no room for
 */
json_t *sample_rates(const struct sample *before, const struct sample *after);

#endif
