/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user asked for: filled with defaults, then from a JSON file, then from the command
 * line (vmm/config/config_json.c, vmm/config/options.c); checked as a whole at the end.
 *
 * Each setting is described once, in the tables of vmm/config/config_settings.c, which the command
 * line, the JSON file and --help share.
 *
 * Set-up only, on one thread.
 */
#ifndef MINIVMM_CONFIG_CONFIG_H
#define MINIVMM_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/log.h"
#include "block/block.h"
#include "block/throttle.h"
#include "devices/virtio/virtio_blk_on_error.h"
#include "memory/guest_mem.h"
#include "vmm/config/config_net.h"

#define CONFIG_MEMORY_DEFAULT (512ull << 20)
#define CONFIG_MEMORY_MIN (32ull << 20)
#define CONFIG_MEMORY_MAX (1ull << 42) /* 4 TiB */
#define CONFIG_CPUS_MAX 255u           /* 8-bit APIC IDs */
#define CONFIG_QUEUES_MAX 16u          /* per disk */
#define CONFIG_SHUTDOWN_TIMEOUT_S 60u
#define CONFIG_SHUTDOWN_TIMEOUT_S_MAX 86400u /* a day: who wants more wants no limit */
#define CONFIG_NETS_MAX 32u                  /* half of the devices that there may be */
#define CONFIG_RNG_BPS (1ull << 20)
#define CONFIG_VSOCK_CID 3u
#define CONFIG_VSOCK_CID_MAX 0xfffffffeu /* the last one stands for all of them */
#define CONFIG_SOCKET_PATH_MAX 107u      /* bytes; unix(7) */
#define CONFIG_DISK_SERIAL_MAX 20u       /* bytes; virtio 1.2, 5.2.6: the device ID string */
#define CONFIG_TAG_MAX 36u               /* bytes; virtio 1.2, 5.11.4 */

/* Exit codes of the process: documented in docs/minivmm.1. */
enum exit_code {
    EXIT_POWER_OFF = 0, /* also --help and --version */
    EXIT_SETUP = 1,
    EXIT_USAGE = 2,
    EXIT_REBOOT = 3, /* --on-reboot exit */
    EXIT_KILLED = 4, /* Ctrl-A x, second signal, time-out after the power button, no guest ran */
    EXIT_VMM = 5,    /* KVM or the VMM failed while the guest ran, or a disk or trace was lost */
};

enum serial_kind { SERIAL_STDIO, SERIAL_NULL, SERIAL_PTY, SERIAL_FILE, SERIAL_UNIX };

/* Where the bytes of a port of the guest go to and come from. */
struct config_port {
    bool given; /* the user said so */
    enum serial_kind kind;
    char *path; /* SERIAL_FILE, SERIAL_UNIX */
};

/* Where files may lie that images name, besides the folders of these images. */
struct config_places {
    char **paths; /* folders, files and devices */
    unsigned n;
    bool any; /* anywhere */
};

struct config_disk {
    char *path;
    enum block_format format;
    enum block_cache cache;
    enum block_aio aio;
    bool readonly;
    bool discard;
    enum virtio_blk_on_error on_write_error;
    enum virtio_blk_on_error on_read_error;
    struct config_places backing;
    unsigned nqueues; /* 1 to CONFIG_QUEUES_MAX */
    struct throttle_limits limits;
    char *serial; /* 1 to CONFIG_DISK_SERIAL_MAX printable ASCII characters; NULL: none */
};

struct config_rng {
    bool on;
    uint64_t bps; /* bytes per second; 0: no limit */
};

/* A port of the host that guests reach at a socket of its own. */
struct config_port_map {
    uint32_t port;
    char *path;
};

struct config_vsock {
    char *path;
    unsigned cid;
    bool listen; /* guests reach the sockets beside `path` */
    struct config_port_map *maps;
    size_t nmaps;
};

/* A folder of the host that the guest mounts. */
struct config_share {
    char *path;
    char *tag; /* 1 to CONFIG_TAG_MAX bytes */
    bool readonly;
};

struct config {
    char *name; /* vm_name_is_valid; NULL: none */
    char *file; /* that settings were read from; NULL: none */
    char *kernel;
    bool kernel_in_file; /* `file` names it, not the command line */
    char **initrds;
    size_t ninitrds;
    char *append;  /* added to the default command line; NULL: nothing */
    char *cmdline; /* replaces it; NULL: default */
    struct config_disk *disks;
    size_t ndisks;
    struct config_share *shares;
    size_t nshares;
    struct config_rng *rngs; /* at most one */
    size_t nrngs;
    struct config_net *nets;
    size_t nnets;
    struct config_vsock *vsocks; /* at most one */
    size_t nvsocks;
    struct config_places backing; /* for all disks */
    uint64_t memory;              /* bytes, a multiple of 1 MiB */
    enum guest_pages pages;
    bool balloon;  /* guests give memory back to the host */
    bool prealloc; /* the host provides all of the memory before the guest starts */
    unsigned ncpus;
    struct config_port serial;
    struct config_port console; /* not given: there is none */
    bool restart_on_reboot;
    unsigned shutdown_timeout_s; /* for a guest that was asked to power off; 0: it is not asked */
    bool acpi;
    bool kaslr;
    bool rtc;
    char *kernel_cache; /* NULL: the default folder */
    bool kernel_cache_off;
    char *boot_trace; /* file for a timeline; NULL: none */
    bool paused;      /* the guest begins when a client says so */
    char *qmp;        /* address of a control socket; NULL: none */
    char *gdb;        /* address of a socket for gdb; NULL: none */
    bool wait_gdb;    /* the guest stands still until gdb lets it run */
    enum log_level log_level;
};

void config_init(struct config *config);
void config_done(struct config *config);

void config_places_done(struct config_places *places);

void config_share_done(struct config_share *share);

void config_rng_init(struct config_rng *rng);

void config_vsock_init(struct config_vsock *vsock);
void config_vsock_done(struct config_vsock *vsock);

void config_disk_init(struct config_disk *disk);
void config_disk_done(struct config_disk *disk);

/*
 * What needs a look at the whole: a kernel is given, `append` and `cmdline` are not both given.
 * Single values were checked when they were set.
 */
int config_check(const struct config *config, struct err *err) MUST_CHECK;

/*
 * What the serial port is: as given, or else standard input and output, unless the console has
 * these.
 */
enum serial_kind config_serial_kind(const struct config *config);

/*
 * The folder for unpacked kernels: `kernel_cache`, or minivmm in $XDG_CACHE_HOME or ~/.cache.
 * Returns a string to free; NULL where there is none.
 */
char *config_kernel_cache(const struct config *config);

/*
 * May guest memory be a mapping of files? Not where its pages are chosen before the kernel comes,
 * or shared with other processes: a mapped file would take their place.
 */
bool config_may_map_files(const struct config *config);

/*
 * The command line for the guest: `cmdline`, or the defaults for this machine followed by
 * `append`. Returns a string to free; NULL without memory.
 */
char *config_kernel_cmdline(const struct config *config);

#endif
