/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config_settings.h"

#include <string.h>

#define VM_FIELD(member) .field = offsetof(struct config, member)
#define SHARE_FIELD(member) .field = offsetof(struct config_share, member)
#define RNG_FIELD(member) .field = offsetof(struct config_rng, member)
#define NET_FIELD(member) .field = offsetof(struct config_net, member)
#define VSOCK_FIELD(member) .field = offsetof(struct config_vsock, member)
#define DISK_FIELD(member) .field = offsetof(struct config_disk, member)

/* NOLINTBEGIN(bugprone-macro-parentheses): strings that become arrays */
#define LIMIT(key, takes, member, text)                                                            \
    {                                                                                              \
        .name = key, .value = takes, .json = SETTING_JSON_SIZE, .type = SETTING_IS_LIMIT,          \
        DISK_FIELD(limits.member), .help = text                                                    \
    }
/* NOLINTEND(bugprone-macro-parentheses) */

/* clang-format off */
const struct setting config_settings[] = {
    {.name = "kernel", .value = "FILE", .type = SETTING_IS_KERNEL, VM_FIELD(kernel),
     .help = "Linux kernel: bzImage or ELF vmlinux"},
    {.name = "initrd", .value = "FILE", .json = SETTING_JSON_STRINGS,
     .type = SETTING_IS_INITRD,
     .help = "initial ramdisk; several are concatenated"},
    {.name = "append", .value = "TEXT", .type = SETTING_IS_CMDLINE, VM_FIELD(append),
     .help = "add to the default kernel command line"},
    {.name = "cmdline", .value = "TEXT", .type = SETTING_IS_CMDLINE, VM_FIELD(cmdline),
     .help = "replace the default kernel command line but pci=off"},
    {.name = "disk", .value = "FILE[,KEY=VALUE]...", .json = SETTING_JSON_GROUP,
     .type = SETTING_IS_GROUP,
     .help = "disk image: /dev/vda, vdb, ... in order"},
    {.name = "backing", .value = "FOLDER|any", .json = SETTING_JSON_STRINGS,
     .type = SETTING_IS_PLACES,
     VM_FIELD(backing),
     .help = "where else all disks' backing files may lie"},
    {.name = "net", .value = "KIND[,KEY=VALUE]...", .json = SETTING_JSON_GROUP,
     .type = SETTING_IS_GROUP,
     .help = "card: user|tap:|fd:|bridge:|unix:|unix-dgram:|none"},
    {.name = "share", .value = "FOLDER,tag=NAME[,KEY=VALUE]...", .json = SETTING_JSON_GROUP,
     .type = SETTING_IS_GROUP,
     .help = "folder of the host: mount -t virtiofs NAME /mnt"},
    {.name = "rng", .value = "on|off[,KEY=VALUE]...", .json = SETTING_JSON_GROUP,
     .type = SETTING_IS_GROUP,
     .help = "random bytes of the host: /dev/hwrng (default: off)"},
    {.name = "vsock", .value = "path=SOCK[,KEY=VALUE]...", .json = SETTING_JSON_GROUP,
     .type = SETTING_IS_GROUP,
     .help = "streams between guest and host, on unix sockets"},
    {.name = "memory", .value = "SIZE", .json = SETTING_JSON_SIZE, .type = SETTING_IS_MEMORY,
     VM_FIELD(memory),
     .help = "RAM, from 32M to 4T (default: 512M)"},
    {.name = "hugepages", .value = "thp|host|2M", .type = SETTING_IS_PAGES, VM_FIELD(pages),
     .help = "the host's pages for RAM (default: thp)"},
    {.name = "prealloc", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     VM_FIELD(prealloc),
     .help = "provide all RAM before the start (default: off)"},
    {.name = "balloon", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     VM_FIELD(balloon),
     .help = "unused RAM goes back to the host (default: off)"},
    {.name = "cpus", .value = "N", .json = SETTING_JSON_INTEGER, .type = SETTING_IS_NUMBER,
     VM_FIELD(ncpus),
     .min = 1, .max = CONFIG_CPUS_MAX,
     .help = "number of CPUs (default: 1)"},
    {.name = "serial", .value = "stdio|null|pty|file:PATH|unix:PATH", .type = SETTING_IS_PORT,
     VM_FIELD(serial),
     .help = "serial port (default: stdio)"},
    {.name = "console", .value = "stdio|null|pty|file:PATH|unix:PATH", .type = SETTING_IS_PORT,
     VM_FIELD(console),
     .help = "terminal hvc0 (default: none)"},
    {.name = "on-reboot", .value = "exit|restart", .type = SETTING_IS_REBOOT,
     .help = "when the guest reboots (default: exit)"},
    {.name = "shutdown-timeout", .value = "SECONDS", .json = SETTING_JSON_INTEGER,
     .type = SETTING_IS_NUMBER, VM_FIELD(shutdown_timeout_s), .max = CONFIG_SHUTDOWN_TIMEOUT_S_MAX,
     .help = "for a guest asked to power off (default: 60)"},
    {.name = "acpi", .option = "no-acpi", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     VM_FIELD(acpi),
     .help = "MP table and command line instead of ACPI"},
    {.name = "kaslr", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     VM_FIELD(kaslr),
     .help = "random addresses of the kernel (default: on)"},
    {.name = "rtc", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     VM_FIELD(rtc),
     .help = "a clock with whole seconds (default: off)"},
    {.name = "kernel-cache", .value = "FOLDER|off", .type = SETTING_IS_KERNEL_CACHE,
     .help = "unpacked kernels (default: ~/.cache/minivmm)"},
    {.name = "boot-trace", .value = "FILE", .type = SETTING_IS_PATH, VM_FIELD(boot_trace),
     .help = "timeline of the VM, for Perfetto"},
    {.name = "name", .value = "NAME", .type = SETTING_IS_NAME, VM_FIELD(name),
     .help = "name of the VM: where its control socket is"},
    {.name = "qmp", .value = "unix:PATH|tcp:127.0.0.1:PORT",
     .type = SETTING_IS_ADDRESS, VM_FIELD(qmp),
     .help = "control socket, for clients of QEMU's protocol"},
    {.name = "paused", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     VM_FIELD(paused),
     .help = "begin when a client says `cont` (default: off)"},
    {.name = "gdb", .value = "unix:PATH|tcp:127.0.0.1:PORT",
     .type = SETTING_IS_ADDRESS, VM_FIELD(gdb),
     .help = "socket for gdb, which debugs the guest"},
    {.name = "wait-gdb", .json = SETTING_JSON_BOOLEAN,
     .type = SETTING_IS_ON_OFF, VM_FIELD(wait_gdb),
     .help = "let the guest wait for gdb before it starts"},
    {.name = "log", .value = "error|warn|info|debug",
     .type = SETTING_IS_LOG_LEVEL, VM_FIELD(log_level),
     .help = "what to report on stderr (default: warn)"},
    {.name = ""},
};

static const struct setting disk_settings[] = {
    {.name = "file", .value = "FILE", .type = SETTING_IS_PATH, DISK_FIELD(path),
     .help = "image file or block device"},
    {.name = "format", .value = "qcow2|raw", .type = SETTING_IS_FORMAT, DISK_FIELD(format),
     .help = "image format (default: by its first bytes)"},
    {.name = "readonly", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     DISK_FIELD(readonly),
     .help = "refuse writes (default: off)"},
    {.name = "cache", .value = "writeback|none|unsafe", .type = SETTING_IS_CACHE, DISK_FIELD(cache),
     .help = "use of the host's cache (default: writeback)"},
    {.name = "aio", .value = "io_uring|threads", .type = SETTING_IS_AIO, DISK_FIELD(aio),
     .help = "how to do I/O (default: io_uring if allowed)"},
    {.name = "backing", .value = "FOLDER|any", .json = SETTING_JSON_STRINGS,
     .type = SETTING_IS_DISK_PLACE,
     DISK_FIELD(backing),
     .help = "where else its backing files may lie"},
    {.name = "serial", .value = "ID", .type = SETTING_IS_DISK_SERIAL, DISK_FIELD(serial),
     .help = "serial number, up to 20 characters"},
    {.name = "queues", .value = "N", .json = SETTING_JSON_INTEGER, .type = SETTING_IS_NUMBER,
     DISK_FIELD(nqueues), .min = 1, .max = CONFIG_QUEUES_MAX,
     .help = "number of request queues (default: 1)"},
    {.name = "discard", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     DISK_FIELD(discard),
     .help = "pass discards on to the image (default: on)"},
    {.name = "werror", .value = "enospc|report|stop", .type = SETTING_IS_WRITE_ERROR,
     DISK_FIELD(on_write_error),
     .help = "pause the VM when a write fails (default: enospc)"},
    {.name = "rerror", .value = "report|stop",
     .type = SETTING_IS_READ_ERROR, DISK_FIELD(on_read_error),
     .help = "pause the VM when a read fails (default: report)"},
    LIMIT("bps", "N", kinds[THROTTLE_BPS].avg, "bytes per second (default: no limit)"),
    LIMIT("bps_max", "N", kinds[THROTTLE_BPS].max, "bytes per second, in a burst"),
    LIMIT("bps_max_length", "SECONDS", kinds[THROTTLE_BPS].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("bps_rd", "N", kinds[THROTTLE_BPS_RD].avg, "bytes read per second (default: no limit)"),
    LIMIT("bps_rd_max", "N", kinds[THROTTLE_BPS_RD].max, "bytes read per second, in a burst"),
    LIMIT("bps_rd_max_length", "SECONDS", kinds[THROTTLE_BPS_RD].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("bps_wr", "N", kinds[THROTTLE_BPS_WR].avg,
          "bytes written per second (default: no limit)"),
    LIMIT("bps_wr_max", "N", kinds[THROTTLE_BPS_WR].max, "bytes written per second, in a burst"),
    LIMIT("bps_wr_max_length", "SECONDS", kinds[THROTTLE_BPS_WR].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("iops", "N", kinds[THROTTLE_IOPS].avg, "operations per second (default: no limit)"),
    LIMIT("iops_max", "N", kinds[THROTTLE_IOPS].max, "operations per second, in a burst"),
    LIMIT("iops_max_length", "SECONDS", kinds[THROTTLE_IOPS].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("iops_rd", "N", kinds[THROTTLE_IOPS_RD].avg, "reads per second (default: no limit)"),
    LIMIT("iops_rd_max", "N", kinds[THROTTLE_IOPS_RD].max, "reads per second, in a burst"),
    LIMIT("iops_rd_max_length", "SECONDS", kinds[THROTTLE_IOPS_RD].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("iops_wr", "N", kinds[THROTTLE_IOPS_WR].avg, "writes per second (default: no limit)"),
    LIMIT("iops_wr_max", "N", kinds[THROTTLE_IOPS_WR].max, "writes per second, in a burst"),
    LIMIT("iops_wr_max_length", "SECONDS", kinds[THROTTLE_IOPS_WR].max_length,
          "how long a burst lasts (default: 1)"),
    LIMIT("iops_size", "BYTES", iops_size, "what counts as one operation (default: any)"),
    {.name = ""},
};

static const struct setting net_settings[] = {
    {.name = "kind", .value = "user|tap:NAME|...", .type = SETTING_IS_NET_KIND, NET_FIELD(kind),
     .help = "where its frames go to and come from"},
    {.name = "mac", .value = "ADDRESS", .type = SETTING_IS_MAC, NET_FIELD(mac),
     .help = "its address (default: by the VM's name)"},
    {.name = "mtu", .value = "BYTES", .json = SETTING_JSON_INTEGER, .type = SETTING_IS_NUMBER,
     NET_FIELD(mtu), .min = PASST_MTU_MIN, .max = PASST_MTU_MAX,
     .help = "largest packet (default: 65520 with user)"},
    {.name = "bps", .value = "N", .json = SETTING_JSON_SIZE, .type = SETTING_IS_LIMIT,
     NET_FIELD(bps),
     .help = "bytes per second, each way (default: no limit)"},
    {.name = "pps", .value = "N", .json = SETTING_JSON_SIZE, .type = SETTING_IS_LIMIT,
     NET_FIELD(pps),
     .help = "packets per second, each way (default: no limit)"},
    {.name = "forward", .value = "[tcp:|udp:][ADDR:]HOST:GUEST", .json = SETTING_JSON_STRINGS,
     .type = SETTING_IS_TEXTS, NET_FIELD(forwards),
     .help = "user: a port of the host leads to the guest"},
    {.name = "dns", .value = "ADDRESS", .json = SETTING_JSON_STRINGS, .type = SETTING_IS_TEXTS,
     NET_FIELD(dns),
     .help = "user: a name server (default: the host's)"},
    {.name = "hostname", .value = "NAME", .type = SETTING_IS_TEXT, NET_FIELD(hostname),
     .help = "user: the guest's name, by DHCP"},
    {.name = "isolate", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     NET_FIELD(isolate),
     .help = "user: keep the host's loopback away (default: on)"},
    {.name = "server", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     NET_FIELD(server),
     .help = "unix: the other side connects (default: off)"},
    {.name = "vhost", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     NET_FIELD(vhost),
     .help = "tap, fd, bridge: by the kernel (default: off)"},
    {.name = "helper", .value = "FILE", .type = SETTING_IS_PATH, NET_FIELD(helper),
     .help = "bridge: who makes taps on it"},
    {.name = ""},
};

static const struct setting share_settings[] = {
    {.name = "path", .value = "FOLDER", .type = SETTING_IS_PATH, SHARE_FIELD(path),
     .help = "a folder"},
    {.name = "tag", .value = "NAME", .type = SETTING_IS_TAG, SHARE_FIELD(tag),
     .help = "what the guest calls it"},
    {.name = "readonly", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     SHARE_FIELD(readonly),
     .help = "refuse changes (default: off)"},
    {.name = ""},
};

static const struct setting rng_settings[] = {
    {.name = "on", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     RNG_FIELD(on),
     .help = "is there one"},
    {.name = "bps", .value = "N", .json = SETTING_JSON_SIZE, .type = SETTING_IS_LIMIT,
     RNG_FIELD(bps),
     .help = "bytes per second (default: 1M; 0: no limit)"},
    {.name = ""},
};

static const struct setting vsock_settings[] = {
    {.name = "path", .value = "SOCK", .type = SETTING_IS_PATH, VSOCK_FIELD(path),
     .help = "socket where programs connect to guests"},
    {.name = "cid", .value = "N", .json = SETTING_JSON_INTEGER, .type = SETTING_IS_NUMBER,
     VSOCK_FIELD(cid),
     .min = CONFIG_VSOCK_CID, .max = CONFIG_VSOCK_CID_MAX,
     .help = "the guest's context ID (default: 3)"},
    {.name = "listen", .value = "on|off", .json = SETTING_JSON_BOOLEAN, .type = SETTING_IS_ON_OFF,
     VSOCK_FIELD(listen),
     .help = "may the guest reach SOCK_PORT (default: on)"},
    {.name = "map", .value = "PORT:PATH", .json = SETTING_JSON_STRINGS,
     .type = SETTING_IS_PORT_MAP,
     .help = "a socket that the guest reaches at a port"},
    {.name = ""},
};
/* clang-format on */

/* ---- groups ---------------------------------------------------------------------------------- */

static void init_disk(void *disk)
{
    config_disk_init(disk);
}

static void finish_disk(void *disk)
{
    config_disk_done(disk);
}

static int check_disk(const void *object, struct err *err)
{
    const struct config_disk *disk = object;

    return disk->path ? 0 : err_set(err, -EINVAL, "file is missing: expected an image file");
}

static void init_share(void *share)
{
    *(struct config_share *)share = (struct config_share){0};
}

static void finish_share(void *share)
{
    config_share_done(share);
}

static int check_share(const void *object, struct err *err)
{
    const struct config_share *share = object;

    if (!share->path)
        return err_set(err, -EINVAL, "path is missing: expected a folder");
    return share->tag ? 0 : err_set(err, -EINVAL, "tag is missing: expected a name for the guest");
}

static void init_rng(void *rng)
{
    config_rng_init(rng);
}

static void init_net(void *net)
{
    config_net_init(net);
}

static void finish_net(void *net)
{
    config_net_done(net);
}

static int check_net(const void *net, struct err *err)
{
    struct net_options options;

    return config_net_options(net, &options, err);
}

static void init_vsock(void *vsock)
{
    config_vsock_init(vsock);
}

static void finish_vsock(void *vsock)
{
    config_vsock_done(vsock);
}

static int check_vsock(const void *object, struct err *err)
{
    const struct config_vsock *vsock = object;

    return vsock->path ? 0 : err_set(err, -EINVAL, "path is missing: expected one for a socket");
}

/* For groups whose elements own nothing. */
static void own_nothing(void *object)
{
}

/* Array and count in struct config, and the size of an element. */
#define GROUP_FIELDS(elements, n)                                                                  \
    .array = offsetof(struct config, elements), .count = offsetof(struct config, n),               \
    .size = sizeof(*((struct config *)0)->elements)

const struct config_group config_groups[] = {
    {.name = "disk",
     .settings = disk_settings,
     .first_is_unnamed = true,
     .max = SIZE_MAX,
     GROUP_FIELDS(disks, ndisks),
     .init = init_disk,
     .done = finish_disk,
     .check = check_disk},
    {.name = "net",
     .settings = net_settings,
     .first_is_unnamed = true,
     .max = CONFIG_NETS_MAX,
     GROUP_FIELDS(nets, nnets),
     .init = init_net,
     .done = finish_net,
     .check = check_net},
    {.name = "share",
     .settings = share_settings,
     .first_is_unnamed = true,
     .max = SIZE_MAX,
     GROUP_FIELDS(shares, nshares),
     .init = init_share,
     .done = finish_share,
     .check = check_share},
    {.name = "rng",
     .settings = rng_settings,
     .first_is_unnamed = true,
     .max = 1,
     GROUP_FIELDS(rngs, nrngs),
     .init = init_rng,
     .done = own_nothing},
    {.name = "vsock",
     .settings = vsock_settings,
     .max = 1,
     GROUP_FIELDS(vsocks, nvsocks),
     .init = init_vsock,
     .done = finish_vsock,
     .check = check_vsock},
    {.name = ""},
};

const struct config_group *config_group_find(const char *name)
{
    const struct config_group *group = config_groups;

    while (group->name[0] && strcmp(group->name, name) != 0)
        group++;
    return group->name[0] ? group : NULL;
}

const struct setting *setting_find(const struct setting *table, const char *name)
{
    for (const struct setting *setting = table; setting->name[0]; setting++) {
        if (strcmp(setting->name, name) == 0)
            return setting;
    }
    return NULL;
}
