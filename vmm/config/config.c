/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void config_init(struct config *config)
{
    *config = (struct config){
        .memory = CONFIG_MEMORY_DEFAULT,
        .ncpus = 1,
        .serial.kind = SERIAL_STDIO,
        .shutdown_timeout_s = CONFIG_SHUTDOWN_TIMEOUT_S,
        .acpi = true,
        .kaslr = true,
        .log_level = LOG_WARN,
    };
}

void config_done(struct config *config)
{
    for (size_t i = 0; i < config->ninitrds; i++)
        free(config->initrds[i]);
    for (size_t i = 0; i < config->ndisks; i++)
        config_disk_done(&config->disks[i]);
    free(config->initrds);
    free(config->disks);
    for (size_t i = 0; i < config->nvsocks; i++)
        config_vsock_done(&config->vsocks[i]);
    free(config->vsocks);
    for (size_t i = 0; i < config->nshares; i++)
        config_share_done(&config->shares[i]);
    free(config->shares);
    free(config->rngs);
    for (size_t i = 0; i < config->nnets; i++)
        config_net_done(&config->nets[i]);
    free(config->nets);
    config_places_done(&config->backing);
    free(config->name);
    free(config->file);
    free(config->kernel);
    free(config->append);
    free(config->cmdline);
    free(config->serial.path);
    free(config->console.path);
    free(config->kernel_cache);
    free(config->boot_trace);
    free(config->qmp);
    free(config->gdb);
    *config = (struct config){0};
}

void config_places_done(struct config_places *places)
{
    for (unsigned i = 0; i < places->n; i++)
        free(places->paths[i]);
    free(places->paths);
    *places = (struct config_places){0};
}

void config_share_done(struct config_share *share)
{
    free(share->path);
    free(share->tag);
}

/* Fast enough for whoever waits for random bytes, and nothing to keep a processor busy with. */
void config_rng_init(struct config_rng *rng)
{
    *rng = (struct config_rng){.on = true, .bps = CONFIG_RNG_BPS};
}

void config_vsock_init(struct config_vsock *vsock)
{
    *vsock = (struct config_vsock){.cid = CONFIG_VSOCK_CID, .listen = true};
}

void config_vsock_done(struct config_vsock *vsock)
{
    for (size_t i = 0; i < vsock->nmaps; i++)
        free(vsock->maps[i].path);
    free(vsock->maps);
    free(vsock->path);
    *vsock = (struct config_vsock){0};
}

/*
 * Discards reach the host file unless told otherwise: fstrim in the guest is how an image stays as
 * small as what is in it.
 */
void config_disk_init(struct config_disk *disk)
{
    *disk = (struct config_disk){
        .format = BLOCK_FORMAT_PROBE,
        .cache = BLOCK_CACHE_WRITEBACK,
        .aio = BLOCK_AIO_AUTO,
        .discard = true,
        .on_write_error = VIRTIO_BLK_ERROR_STOP_IF_FULL,
        .nqueues = 1,
    };
    throttle_limits_init(&disk->limits);
}

void config_disk_done(struct config_disk *disk)
{
    config_places_done(&disk->backing);
    free(disk->path);
    free(disk->serial);
    *disk = (struct config_disk){0};
}

static bool is_same(const char *path, const char *other)
{
    return path && other && strcmp(path, other) == 0;
}

static bool are_at_one_place(const struct config_port *port, const struct config_port *other)
{
    if (!port->given || !other->given || port->kind != other->kind)
        return false;
    return port->kind == SERIAL_STDIO || is_same(port->path, other->path);
}

static int check_shares(const struct config *config, struct err *err)
{
    for (size_t i = 1; i < config->nshares; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(config->shares[i].tag, config->shares[j].tag) == 0)
                return err_set(err, -EINVAL,
                               "share: tag %s is given twice: expected different ones",
                               config->shares[i].tag);
    return 0;
}

int config_check(const struct config *config, struct err *err)
{
    int r;

    if (!config->kernel)
        return err_set(err, -EINVAL, "--kernel is missing: expected a bzImage or an ELF vmlinux");
    if (config->append && config->cmdline)
        return err_set(err, -EINVAL, "append and cmdline are both given: expected one of them");
    if (config->paused && !config->qmp && !config->name)
        return err_set(err, -EINVAL,
                       "paused: nobody could let the guest begin: expected a control "
                       "socket, by qmp or name");
    if (is_same(config->boot_trace, config->serial.path))
        return err_set(err, -EINVAL, "boot-trace: %s: the serial port has it: expected another one",
                       config->boot_trace);
    if (config->balloon && (config->prealloc || config->pages == GUEST_PAGES_2M))
        return err_set(err, -EINVAL,
                       "balloon: RAM that is provided beforehand, by %s, does not go back to the "
                       "host: expected only one of them",
                       config->prealloc ? "prealloc" : "hugepages 2M");
    if (is_same(config->boot_trace, config->console.path))
        return err_set(err, -EINVAL, "boot-trace: %s: the console has it: expected another one",
                       config->boot_trace);
    if (are_at_one_place(&config->serial, &config->console))
        return err_set(err, -EINVAL, "console: the serial port is there: expected another place");
    if (config->wait_gdb && !config->gdb)
        return err_set(err, -EINVAL, "--wait-gdb needs --gdb, the socket that gdb connects to");
    r = check_shares(config, err);
    if (r == 0)
        r = config_nets_check(config->nets, config->nnets, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < config->ndisks; i++) {
        const struct config_disk *disk = &config->disks[i];

        r = throttle_limits_check(&disk->limits, err);
        if (r < 0) {
            err_prefix(err, "disk %.200s", disk->path);
            return r;
        }
    }
    return 0;
}

enum serial_kind config_serial_kind(const struct config *config)
{
    bool taken = config->console.given && config->console.kind == SERIAL_STDIO;

    return taken && !config->serial.given ? SERIAL_NULL : config->serial.kind;
}

static bool has_setting(const char *cmdline, const char *name)
{
    for (const char *at = strstr(cmdline, name); at; at = strstr(at + 1, name))
        if (at == cmdline || at[-1] == ' ')
            return true;
    return false;
}

/* The user's whole command line. What is in front of it cannot fall behind a "--". */
static char *own_cmdline(const char *text)
{
    char *cmdline;

    if (has_setting(text, "pci="))
        return strdup(text);
    if (asprintf(&cmdline, "pci=off%s%s", *text ? " " : "", text) < 0)
        return NULL;
    return cmdline;
}

/* What is said to be absent where no table can say so. */
static const char *absences_of(const struct config *config)
{
    if (config->acpi)
        return "";
    return config->rtc ? " acpi=off" : " acpi=off initcall_blacklist=cmos_init";
}

/*
 * The last console is /dev/console. The serial port is one in any case: hvc0 is none before its
 * driver is there, and the first program wants to open one.
 *
 * After console and root come parameters that save a stock kernel from looking for hardware that
 * this machine does not have. None of them changes how the guest behaves:
 *
 * - 8250.nr_uarts=1: distributions register up to 32 serial ports, probe four of them, and udev
 *   handles each.
 * - pci=off: there is no PCI bus. Linux reads configuration space by port I/O before it looks at
 *   any table that could say so (early quirks, the search for an AMD northbridge and, on old AMD
 *   processors, for an AGP bridge), each read being two exits, up to 33 190 of them.
 * - acpi=off, without ACPI only: no error messages about tables that are absent on purpose.
 * - initcall_blacklist=cmos_init, without ACPI only, where no FADT says that there is no CMOS
 *   clock: its driver waits for a "no update in progress" that never comes, 9 of 13 s in one
 *   measured boot. Kernels without that driver take no notice.
 *
 * Rebooting needs no parameter: each way that Linux knows ends at a reset (docs/boot.md). There
 * is no panic= either: it would take the rescue shell of Debian's initramfs away, and a guest that
 * panics early would restart for ever.
 */
char *config_kernel_cmdline(const struct config *config)
{
    const char *root = "";
    char *cmdline;

    if (config->cmdline)
        return own_cmdline(config->cmdline);
    if (config->ndisks > 0)
        root = config->disks[0].readonly ? " root=/dev/vda ro" : " root=/dev/vda rw";
    if (asprintf(&cmdline, "console=ttyS0%s%s 8250.nr_uarts=1 pci=off%s%s%s",
                 config->console.given ? " console=hvc0" : "", root, absences_of(config),
                 config->append ? " " : "", config->append ? config->append : "") < 0)
        return NULL;
    return cmdline;
}

bool config_may_map_files(const struct config *config)
{
    return !config->prealloc && config->pages != GUEST_PAGES_2M && config->nshares == 0;
}

char *config_kernel_cache(const struct config *config)
{
    const char *caches = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char *path;
    int n;

    if (config->kernel_cache_off)
        return NULL;
    if (config->kernel_cache)
        return strdup(config->kernel_cache);
    /* Relative paths are to be ignored, says the XDG Base Directory Specification. */
    if (caches && caches[0] == '/')
        n = asprintf(&path, "%s/minivmm", caches);
    else if (home && home[0] == '/')
        n = asprintf(&path, "%s/.cache/minivmm", home);
    else
        return NULL;
    return n < 0 ? NULL : path;
}
