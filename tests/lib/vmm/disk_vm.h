/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of a VM as operations on a disk need: the disk, a guest that never rests
 * (tests/lib/block/disk_load.h), and the main loop that hears how an operation ended.
 *
 * Images are files of the scratch folder. There is one such VM; it begins when its disk is opened.
 */
#ifndef MINIVMM_TESTS_DISK_VM_H
#define MINIVMM_TESTS_DISK_VM_H

#include <stdbool.h>

#include "base/bytes.h"
#include "block/create.h"
#include "tests/lib/block/disk_load.h"
#include "tests/lib/unit.h"
#include "vmm/config/config.h"
#include "vmm/disk.h"
#include "vmm/disk_jobs.h"

#define DISK_VM_LEN (16u * MIB) /* of the disk, at first */

/* New images, each with another format. */
#define DISK_VM_LAYOUTS 4u
extern const struct block_create_options disk_vm_layouts[DISK_VM_LAYOUTS];

extern struct disk_vm {
    struct config config;
    struct config_disk disk_config;
    struct open_files files;
    struct loop *main;
    struct disk *disk;
    struct disk_load *load;

    /* Of jobs. */
    unsigned nbegun;
    unsigned nready;

    /* Of the operation that was done last. */
    unsigned ndone;
    int result;
    struct err err;
} disk_vm;

/* Make an image of DISK_VM_LEN bytes. */
void disk_vm_make(const char *name, struct block_create_options options);

void disk_vm_open(const char *name, enum block_format format, bool readonly);
void disk_vm_close(void);

/* Let the guest begin; its disk may grow up to `max`. */
void disk_vm_start_load(uint64_t max, bool reads_only);

/* On the disk's loop: the guest knows of a longer disk, *(uint64_t *)len. */
void disk_vm_grow_load(void *len);

/* The guest and its disk end; what it wrote is there. The load is freed. */
void disk_vm_end_and_check(const char *name, bool qcow2);

/* When nothing has the image open: it is sound, and shows what the guest wrote. */
void disk_vm_check(const char *name, bool qcow2);

/* For operations that are asked for. */
extern const struct disk_done disk_vm_when_done;
extern const struct disk_job_events disk_vm_job_events;

/*
 * Commit images down to another one, each said by its depth: all of them without a wish. It does
 * not wait for anybody when it is ready.
 */
int disk_vm_commit(void);
int disk_vm_commit_range(unsigned top, unsigned base);

/* Stream what is above the image at this depth; 0: all. */
int disk_vm_stream(unsigned base);

/* The main loop runs until the job has begun, or is ready; it is not done before. */
void disk_vm_wait_begun(void);
void disk_vm_wait_ready(void);

/* The main loop runs until the operation has reported; its result. */
int disk_vm_wait(void);

/* As that, and it has succeeded. */
void disk_vm_assert_done(void);

/* The disk goes on in a new image. */
void disk_vm_put_overlay(const char *name);
void disk_vm_overlay_name(unsigned i, char name[16]);

/* A case of tests: those of the first list with each layout, as _i, and those of the second. */
void disk_vm_add(Suite *suite, const char *name, const TTest *const *each,
                 const TTest *const *alone);

#define DISK_VM_TESTS(...) ((const TTest *const[]){__VA_ARGS__, NULL})

#endif
