/*
 * Wrong options, wrong settings, and files that are not what they are taken for, given to the
 * program as a user gives them. tests/lib/guest/refusal.h says what is expected each time.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/block/qcow2/qcow2_image.h"
#include "tests/lib/boot/kernel_file.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/refusal.h"
#include "vmm/config/config.h"

#define KERNEL "--kernel", "kernel"
#define CONFIG "--config", "config.json"

/* Images on top of each other; deep-0 is one too deep. */
#define DEPTH_MAX 64u

/* ---- options --------------------------------------------------------------------------------- */

#define VALUE_40 "0123456789012345678901234567890123456789"
#define VALUE_400                                                                                  \
    VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40 VALUE_40

#define OPTION(name, given, wanted)                                                                \
    {                                                                                              \
        .args = {KERNEL, name, given}, .code = EXIT_USAGE, .says = { name, given, wanted }         \
    }
#define DISK_KEY(key, given, wanted)                                                               \
    {                                                                                              \
        .args = {KERNEL, "--disk", "disk.raw," key "=" given}, .code = EXIT_USAGE, .says = {       \
            "--disk: disk.raw: ",                                                                  \
            key,                                                                                   \
            "'" given "'",                                                                         \
            wanted                                                                                 \
        }                                                                                          \
    }

static const struct refusal options[] = {
    {.args = {NULL}, .code = EXIT_USAGE, .says = {"--kernel", "expected"}},
    {.args = {"--frobnicate"}, .code = EXIT_USAGE, .says = {"--frobnicate", "unknown option"}},
    {.args = {KERNEL, "-x"}, .code = EXIT_USAGE, .says = {"-x", "unknown option"}},
    {.args = {KERNEL, "--mem", "64M"}, .code = EXIT_USAGE, .says = {"--mem", "unknown option"}},
    {.args = {"kernel"}, .code = EXIT_USAGE, .says = {"kernel", "expected an option"}},
    {.args = {"--kernel"}, .code = EXIT_USAGE, .says = {"--kernel", "value missing", "FILE"}},
    {.args = {"--kernel", "--cpus", "1"}, .code = EXIT_USAGE, .says = {"--kernel", "missing"}},
    {.args = {"--kernel", ""}, .code = EXIT_USAGE, .says = {"--kernel", "''", "a file name"}},
    {.args = {KERNEL, "--initrd="}, .code = EXIT_USAGE, .says = {"--initrd", "a file name"}},
    {.args = {KERNEL, "--no-acpi=on"}, .code = EXIT_USAGE, .says = {"--no-acpi", "no value"}},
    {.args = {KERNEL, "--append", "a", "--cmdline", "b"},
     .code = EXIT_USAGE,
     .says = {"append", "cmdline", "expected one"}},
    OPTION("--memory", "", "32M to 4T"),
    OPTION("--memory", "31M", "32M to 4T"),
    OPTION("--memory", "5T", "32M to 4T"),
    OPTION("--memory", "512", "32M to 4T"),
    OPTION("--memory", "64X", "32M to 4T"),
    OPTION("--memory", "-64M", "32M to 4T"),
    OPTION("--memory", "65537K", "whole megabytes"),
    OPTION("--memory", "99999999999999999999", "32M to 4T"),
    OPTION("--memory", "18446744073709551615G", "32M to 4T"),
    OPTION("--cpus", "0", "1 to 255"),
    OPTION("--cpus", "256", "1 to 255"),
    OPTION("--cpus", "-1", "1 to 255"),
    OPTION("--cpus", "4294967297", "1 to 255"),
    OPTION("--cpus", "two", "1 to 255"),
    OPTION("--serial", "tty", "stdio|null|pty"),
    OPTION("--serial", "file:", "file:PATH"),
    OPTION("--serial", "unix:", "unix:PATH"),
    OPTION("--serial", "null:x", "stdio|null|pty"),
    OPTION("--on-reboot", "maybe", "exit|restart"),
    OPTION("--log", "loud", "error|warn|info|debug"),
    {.args = {KERNEL, "--memory", VALUE_400},
     .code = EXIT_USAGE,
     .says = {"--memory", VALUE_40, "32M to 4T"}},
    {.args = {KERNEL, "--memory", "1\n2\033[2J"},
     .code = EXIT_USAGE,
     .says = {"--memory", "'1?2?[2J'", "32M to 4T"}},
    {.args = {KERNEL, "--disk", ""}, .code = EXIT_USAGE, .says = {"--disk", "a file name"}},
    {.args = {KERNEL, "--disk", ",format=raw"}, .code = EXIT_USAGE, .says = {"--disk", "file"}},
    {.args = {KERNEL, "--disk", "disk.raw,format"},
     .code = EXIT_USAGE,
     .says = {"--disk", "'format'", "key=value"}},
    {.args = {KERNEL, "--disk", "disk.raw,"}, .code = EXIT_USAGE, .says = {"--disk", "key=value"}},
    {.args = {KERNEL, "--disk", "disk.raw,nokey=1"},
     .code = EXIT_USAGE,
     .says = {"--disk", "'nokey'", "expected a key"}},
    DISK_KEY("format", "vmdk", "qcow2|raw"),
    DISK_KEY("readonly", "maybe", "on or off"),
    DISK_KEY("cache", "all", "writeback|none|unsafe"),
    DISK_KEY("aio", "native", "io_uring|threads"),
    DISK_KEY("serial", "", "1 to 20"),
    DISK_KEY("serial", "123456789012345678901", "1 to 20"),
    DISK_KEY("queues", "0", "1 to 16"),
    DISK_KEY("queues", "17", "1 to 16"),
    DISK_KEY("discard", "yes", "on or off"),
};

static void print_into_the_void(void)
{
    if (dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), STDOUT_FILENO) < 0)
        _exit(REFUSAL_SKIPPED);
}

static const struct refusal lost_output[] = {
    {.args = {"--help"},
     .in_child = print_into_the_void,
     .code = EXIT_SETUP,
     .says = {"standard output", "No space left"}},
    {.args = {"--version"},
     .in_child = print_into_the_void,
     .code = EXIT_SETUP,
     .says = {"standard output", "No space left"}},
};

/* ---- the configuration file ------------------------------------------------------------------ */

#define JSON(text, ...)                                                                            \
    {                                                                                              \
        .args = {CONFIG}, .config = text, .code = EXIT_USAGE, .says = {                            \
            "config.json",                                                                         \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const struct refusal configs[] = {
    JSON("", "expected"),
    JSON("{", "expected JSON"),
    JSON("kernel=x", ":1:", "expected JSON"),
    JSON("[]", "expected an object"),
    JSON("{\"kernel\": \"kernel\"} x", "expected JSON"),
    JSON("{\"kernel\": \"kernel\", \"kernel\": \"kernel\"}", "duplicate"),
    JSON("{\"kernel\": \"\\u0000\"}", "expected JSON"),
    JSON("{\"kernel\": \"\xff\"}", "expected JSON"),
    JSON("{\"colour\": \"red\"}", "colour", "unknown key"),
    JSON("{\"kernel\": 5}", "kernel", "expected a string"),
    JSON("{\"kernel\": null}", "kernel", "expected a string"),
    JSON("{\"kernel\": \"\"}", "kernel", "expected a file name"),
    JSON("{\"initrd\": \"x\"}", "initrd", "expected an array"),
    JSON("{\"initrd\": [1]}", "initrd[0]", "expected a string"),
    JSON("{\"cpus\": \"2\"}", "cpus", "expected an integer"),
    JSON("{\"cpus\": 0}", "cpus", "1 to 255"),
    JSON("{\"cpus\": -1}", "cpus", "-1", "1 to 255"),
    JSON("{\"cpus\": 1.5}", "cpus", "expected an integer"),
    JSON("{\"cpus\": 1e999}", "expected"),
    JSON("{\"memory\": true}", "memory", "expected a string such as"),
    JSON("{\"memory\": 1}", "memory", "32M to 4T"),
    JSON("{\"acpi\": \"on\"}", "acpi", "true or false"),
    JSON("{\"disk\": {}}", "disk", "expected an array"),
    JSON("{\"disk\": [\"disk.raw\"]}", "disk[0]", "expected an object"),
    JSON("{\"disk\": [{}]}", "disk[0].file", "expected an image file"),
    JSON("{\"disk\": [{\"file\": \"disk.raw\", \"size\": 1}]}", "disk[0].size", "unknown key"),
    JSON("{\"disk\": [{\"file\": \"disk.raw\", \"queues\": 99}]}", "disk[0].queues", "1 to 16"),
    {.args = {CONFIG},
     .config = "{\"kernel\": \"kernel\", \"append\": \"a\", \"cmdline\": \"b\"}",
     .code = EXIT_USAGE,
     .says = {"append", "cmdline", "expected one"}},
    {.args = {"--config", "missing"}, .code = EXIT_USAGE, .says = {"missing", "No such file"}},
    {.args = {"--config", "folder"}, .code = EXIT_USAGE, .says = {"folder", "a regular file"}},
    {.args = {"--config", "fifo"}, .code = EXIT_USAGE, .says = {"fifo", "a regular file"}},
    {.args = {"--config", "socket"}, .code = EXIT_USAGE, .says = {"socket"}},
    {.args = {"--config", "/dev/zero"}, .code = EXIT_USAGE, .says = {"/dev/zero", "regular file"}},
    {.args = {"--config", "kernel"}, .code = EXIT_USAGE, .says = {"kernel", "expected JSON"}},
    {.args = {"--config", "large"}, .code = EXIT_USAGE, .says = {"large", "expected at most"}},
    {.args = {"--config", "config.json", "--cpus", "x"},
     .config = "{}",
     .code = EXIT_USAGE,
     .says = {"--cpus", "'x'", "1 to 255"}},
};

/* ---- kernels and initrds --------------------------------------------------------------------- */

#define KERNEL_FILE(name, ...)                                                                     \
    {                                                                                              \
        .args = {"--kernel", name}, .code = EXIT_SETUP, .says = {                                  \
            "kernel: " name ": ",                                                                  \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define INITRD_FILE(name, ...)                                                                     \
    {                                                                                              \
        .args = {KERNEL, "--initrd", name}, .code = EXIT_SETUP, .says = {                          \
            "initrd: " name ": ",                                                                  \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define NO_KERNEL "expected an x86-64 bzImage or ELF kernel"

static const struct refusal boot_files[] = {
    KERNEL_FILE("missing", "No such file"),
    KERNEL_FILE("missing/kernel", "No such file"),
    KERNEL_FILE("text/kernel", "Not a directory"),
    KERNEL_FILE("folder", "expected a regular file"),
    KERNEL_FILE("fifo", "expected a regular file"),
    KERNEL_FILE("socket", "expected a regular file"),
    KERNEL_FILE("/dev/zero", "expected a regular file"),
    KERNEL_FILE("loop", "symbolic links"),
    KERNEL_FILE("empty", "empty"),
    KERNEL_FILE("text", NO_KERNEL),
    KERNEL_FILE("kernel.gz", "gzip", NO_KERNEL),
    KERNEL_FILE("disk.qcow2", "qcow2", NO_KERNEL),
    KERNEL_FILE("bz-3", NO_KERNEL),
    KERNEL_FILE("bz-510", NO_KERNEL),
    KERNEL_FILE("bz-520", "truncated"),
    KERNEL_FILE("bz-600", "truncated"),
    KERNEL_FILE("bz-1024", "truncated"),
    KERNEL_FILE("bz-5000", "truncated"),
    KERNEL_FILE("bz-old", "too old", "2.11", "expected 2.12"),
    KERNEL_FILE("bz-32bit", "32-bit", "expected"),
    KERNEL_FILE("bz-low", "zImage", "expected"),
    KERNEL_FILE("bz-nowhere", "0xfffffffffffff000"),
    KERNEL_FILE("bz-align", "power of two"),
    KERNEL_FILE("elf-40", "truncated"),
    KERNEL_FILE("elf-100", "truncated"),
    KERNEL_FILE("elf-300", "truncated"),
    KERNEL_FILE("elf-32bit", "64-bit"),
    KERNEL_FILE("elf-arm", "arm64 (machine 183)", "expected 62"),
    KERNEL_FILE("elf-object", "type 1", "expected 2"),
    KERNEL_FILE("elf-headers", "65535", "expected 1 to 64"),
    KERNEL_FILE("elf-headers-behind", "truncated"),
    KERNEL_FILE("elf-segment-wraps", "wraps"),
    KERNEL_FILE("elf-segment-large", "outside the guest's"),
    KERNEL_FILE("elf-segment-low", "overlaps"),
    KERNEL_FILE("elf-entry", "entry point"),
    {.args = {"--kernel", "bz-large", "--memory", "32M"},
     .code = EXIT_SETUP,
     .says = {"kernel: bz-large: ", "32768 KiB", "32 MiB"}},
    {.args = {"--kernel", "bz", "--append", VALUE_400 VALUE_400},
     .code = EXIT_SETUP,
     .says = {"command line", "at most 800"}},
    INITRD_FILE("missing", "No such file"),
    INITRD_FILE("folder", "expected a regular file"),
    INITRD_FILE("fifo", "expected a regular file"),
    INITRD_FILE("socket", "expected a regular file"),
    INITRD_FILE("/dev/zero", "expected a regular file"),
    INITRD_FILE("empty", "empty"),
    {.args = {KERNEL, "--initrd", "large", "--memory", "32M"},
     .code = EXIT_SETUP,
     .says = {"initrd: large: ", "40960 KiB", "32 MiB of RAM"}},
    {.args = {KERNEL, "--initrd", "text", "--initrd", "large", "--memory", "32M"},
     .code = EXIT_SETUP,
     .says = {"initrd: text and more: ", "does not fit"}},
    {.args = {KERNEL, "--initrd", "text", "--initrd", "missing"},
     .code = EXIT_SETUP,
     .says = {"initrd: missing: ", "No such file"}},
};

/* ---- disks ----------------------------------------------------------------------------------- */

#define DISK(text, ...)                                                                            \
    {                                                                                              \
        .args = {KERNEL, "--disk", text}, .code = EXIT_SETUP, .says = {                            \
            "disk vda: ",                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const struct refusal disks[] = {
    DISK("missing", "missing", "No such file"),
    DISK("folder", "folder"),
    DISK("fifo", "fifo", "expected a file or a block device"),
    DISK("fifo,readonly=on", "fifo", "expected a file or a block device"),
    DISK("socket", "socket", "expected a file or a block device"),
    DISK("/dev/zero", "/dev/zero", "expected a file or a block device"),
    DISK("empty", "empty", "expected a qcow2 image or whole sectors"),
    DISK("text", "text", "expected a qcow2 image or whole sectors"),
    DISK("disk.vmdk", "disk.vmdk", "vmdk image", "expected qcow2 or raw"),
    DISK("disk.raw,format=qcow2", "disk.raw", "Image is not in qcow2 format"),
    DISK("empty,format=qcow2", "empty", "Image is not in qcow2 format"),
    DISK("cut-50", "cut-50", "Image is not in qcow2 format"),
    DISK("cut-50,format=qcow2", "cut-50"),
    DISK("cut-90", "cut-90", "truncated"),
    DISK("cut-512", "cut-512"),
    DISK("cut-65536", "cut-65536"),
    DISK("cut-150000", "cut-150000"),
    DISK("version-1", "version-1", "a qcow image", "expected qcow2"),
    DISK("version-4", "version-4", "version 4", "expected 2 or 3"),
    DISK("crypt-1", "crypt-1", "encrypt"),
    DISK("crypt-2", "crypt-2", "encrypt"),
    DISK("incompatible-2", "incompatible-2", "external data file"),
    DISK("incompatible-9", "incompatible-9", "Unknown incompatible"),
    DISK("incompatible-63", "incompatible-63", "Unknown incompatible"),
    DISK("cluster-bits", "cluster-bits", "9 to 21"),
    DISK("cluster-bits-huge", "cluster-bits-huge", "9 to 21"),
    DISK("size-huge", "size-huge"),
    DISK("l1-huge", "l1-huge"),
    DISK("l1-short", "l1-short"),
    DISK("l1-outside", "l1-outside"),
    DISK("l1-unaligned", "l1-unaligned"),
    DISK("reftable-huge", "reftable-huge"),
    DISK("reftable-outside", "reftable-outside"),
    DISK("header-length", "header-length"),
    DISK("extension-huge", "extension-huge"),
    DISK("snapshots-huge", "snapshots-huge"),
    DISK("backing-name-outside", "backing-name-outside", "backing file name"),
    DISK("backing-missing", "backing-missing", "missing", "No such file"),
    DISK("backing-folder", "backing-folder", "folder"),
    DISK("backing-network", "backing-network", "nbd:", "a file of the host is expected"),
    DISK("backing-format", "backing-format", "vmdk", "expected qcow2 or raw"),
    DISK("backing-probed-0", "backing-probed-1", "missing", "No such file"),
    DISK("backing-self", "backing-self", "its own backing file"),
    DISK("backing-loop-0", "backing-loop-0", "its own backing file"),
    DISK("backing-outside", "backing-outside", "/etc/passwd: lies outside",
         "add backing=/etc to --disk"),
    DISK("backing-outside,backing=folder", "add backing=/etc to --disk"),
    DISK("backing-outside,backing=missing", "backing=missing", "No such file"),
    DISK("data-outside", "data-outside", "/etc/passwd: lies outside", "add backing=/etc to --disk"),
    DISK("deep-0", "more than 64 images"),
    {.args = {KERNEL, "--disk", "disk.raw", "--disk", "disk.raw"},
     .code = EXIT_SETUP,
     .says = {"disk.raw: given twice", "disk vda already", "readonly=on for both"}},
    {.args = {KERNEL, "--disk", "disk.qcow2", "--disk", "disk.qcow2,readonly=on"},
     .code = EXIT_SETUP,
     .says = {"disk.qcow2: given twice", "disk vda already", "readonly=on there"}},
    {.args = {KERNEL, "--disk", "disk.raw,readonly=on", "--disk", "disk.hard"},
     .code = EXIT_SETUP,
     .says = {"disk vdb: disk.hard: given twice", "disk vda already", "or readonly=on"}},
    {.args = {KERNEL, "--disk", "deep-63", "--disk", "deep-62"},
     .code = EXIT_SETUP,
     .says = {"backing file of deep-62: deep-63: given twice", "disk vda", "readonly=on there"}},
    {.args = {KERNEL, "--disk", "deep-62", "--disk", "deep-63"},
     .code = EXIT_SETUP,
     .says = {"deep-63: given twice", "a backing file or data file of disk vda"}},
    {.args = {KERNEL, "--initrd", "text", "--disk", "text,format=raw"},
     .code = EXIT_SETUP,
     .says = {"text: given twice", "an initrd already", "readonly=on"}},
    {.args = {KERNEL, "--disk", "disk.qcow2", "--disk", "missing"},
     .code = EXIT_SETUP,
     .says = {"disk vdb: missing", "No such file"}},
    /* All is well with the disks; they must not notice what else goes wrong. */
    {.args = {"--kernel", "bz-large", "--memory", "32M", "--disk", "disk.qcow2", "--disk",
              "disk.raw"},
     .code = EXIT_SETUP,
     .says = {"bz-large"}},
};

/* ---- the serial port ------------------------------------------------------------------------- */

/* What the shell does with 9<>disk.raw and with >>disk.raw. */
static void open_disk_as_9(void)
{
    if (dup2(open("disk.raw", O_RDWR | O_CLOEXEC), 9) < 0)
        _exit(REFUSAL_SKIPPED);
}

static void print_on_disk(void)
{
    if (dup2(open("disk.raw", O_WRONLY | O_APPEND | O_CLOEXEC), STDOUT_FILENO) < 0)
        _exit(REFUSAL_SKIPPED);
}

#define OWN_FILE(role, output, ...)                                                                \
    {                                                                                              \
        .args = {KERNEL, "--serial", output, __VA_ARGS__}, .code = EXIT_SETUP, .says = {           \
            "serial port: ",                                                                       \
            role " of this VM",                                                                    \
            "expected another one"                                                                 \
        }                                                                                          \
    }

/* The first thing that a file is opened for as output is to be emptied. */
static const struct refusal own_files[] = {
    OWN_FILE("the kernel", "file:kernel", NULL),
    OWN_FILE("the kernel", "unix:kernel", NULL),
    OWN_FILE("an initrd", "file:second", "--initrd", "text", "--initrd", "second"),
    OWN_FILE("disk vda", "file:disk.raw", "--disk", "disk.raw"),
    OWN_FILE("disk vda", "file:disk.raw", "--disk", "disk.raw,readonly=on"),
    OWN_FILE("disk vda", "file:disk.hard", "--disk", "disk.raw"),
    OWN_FILE("disk vda", "file:disk.link", "--disk", "disk.raw"),
    OWN_FILE("disk vda", "file:folder/../disk.raw", "--disk", "disk.link"),
    OWN_FILE("disk vdb", "file:disk.qcow2", "--disk", "disk.raw", "--disk", "disk.qcow2"),
    OWN_FILE("a backing file or data file of disk vda", "file:deep-64", "--disk", "deep-1"),
    OWN_FILE("a backing file or data file of disk vda", "file:deep-20", "--disk", "deep-1"),
    OWN_FILE("a backing file or data file of disk vda", "file:second", "--disk", "data-inside"),
    {.args = {CONFIG},
     .config = "{\"kernel\": \"kernel\", \"serial\": \"file:config.json\"}",
     .code = EXIT_SETUP,
     .says = {"the configuration file of this VM", "expected another one"}},
    {.args = {KERNEL, "--disk", "disk.raw", "--serial", "file:/dev/fd/9"},
     .in_child = open_disk_as_9,
     .code = EXIT_SETUP,
     .says = {"/dev/fd/9", "disk vda of this VM"}},
    {.args = {KERNEL, "--disk", "/proc/self/fd/9", "--serial", "file:disk.raw"},
     .in_child = open_disk_as_9,
     .code = EXIT_SETUP,
     .says = {"disk.raw", "disk vda of this VM"}},
    {.args = {KERNEL, "--disk", "disk.raw"},
     .in_child = print_on_disk,
     .code = EXIT_SETUP,
     .says = {"standard output", "disk vda of this VM"}},
};

static const struct refusal serials[] = {
    {.args = {KERNEL, "--serial", "file:missing/log"},
     .code = EXIT_SETUP,
     .says = {"missing/log", "No such file"}},
    {.args = {KERNEL, "--serial", "file:folder"}, .code = EXIT_SETUP, .says = {"folder"}},
    {.args = {KERNEL, "--serial", "unix:text"}, .code = EXIT_SETUP, .says = {"text", "expected"}},
    {.args = {KERNEL, "--serial", "unix:missing/socket"},
     .code = EXIT_SETUP,
     .says = {"missing/socket", "No such file"}},
    {.args = {KERNEL, "--serial", "unix:" VALUE_400},
     .code = EXIT_SETUP,
     .says = {VALUE_40, "at most 107 bytes"}},
    /* The VM fails for another reason: no log truncated, no socket replaced, no pty announced. */
    {.args = {"--kernel", "bz-large", "--memory", "32M", "--serial", "file:text"},
     .code = EXIT_SETUP,
     .says = {"bz-large"}},
    {.args = {"--kernel", "bz-large", "--memory", "32M", "--serial", "unix:socket"},
     .code = EXIT_SETUP,
     .says = {"bz-large"}},
    {.args = {"--kernel", "bz-large", "--memory", "32M", "--serial", "pty"},
     .code = EXIT_SETUP,
     .says = {"bz-large"}},
};

/* ---- the files ------------------------------------------------------------------------------- */

static void write_bzimage(const char *name, const struct test_bzimage *image, size_t len)
{
    refusal_write_file(name, image, len);
}

static void make_bzimages(void)
{
    static const size_t lens[] = {3, 510, 520, 600, 1024, 5000};
    struct test_bzimage good, image;

    test_bzimage_init(&good);
    good.hdr.cmdline_size = 800;
    write_bzimage("bz", &good, sizeof(good));
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        char name[32];

        snprintf(name, sizeof(name), "bz-%zu", lens[i]);
        write_bzimage(name, &good, lens[i]);
    }
    image = good;
    image.hdr.version = 0x020b;
    write_bzimage("bz-old", &image, sizeof(image));
    image = good;
    image.hdr.xloadflags = 0;
    write_bzimage("bz-32bit", &image, sizeof(image));
    image = good;
    image.hdr.loadflags = 0;
    write_bzimage("bz-low", &image, sizeof(image));
    image = good;
    image.hdr.init_size = 32 << 20;
    write_bzimage("bz-large", &image, sizeof(image));
    image = good;
    image.hdr.pref_address = 0xfffffffffffff000;
    write_bzimage("bz-nowhere", &image, sizeof(image));
    image = good;
    image.hdr.kernel_alignment = 3;
    write_bzimage("bz-align", &image, sizeof(image));
}

static void make_elfs(void)
{
    static const size_t lens[] = {40, 100, 300};
    struct test_elf good, elf;

#define WRITE_ELF(name, ...)                                                                       \
    do {                                                                                           \
        elf = good;                                                                                \
        __VA_ARGS__;                                                                               \
        refusal_write_file(name, &elf, sizeof(elf));                                               \
    } while (0)

    test_elf_init(&good);
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        char name[32];

        snprintf(name, sizeof(name), "elf-%zu", lens[i]);
        refusal_write_file(name, &good, lens[i]);
    }
    WRITE_ELF("elf-32bit", elf.ehdr.e_ident[EI_CLASS] = ELFCLASS32);
    WRITE_ELF("elf-arm", elf.ehdr.e_machine = EM_AARCH64);
    WRITE_ELF("elf-object", elf.ehdr.e_type = ET_REL);
    WRITE_ELF("elf-headers", elf.ehdr.e_phnum = UINT16_MAX);
    WRITE_ELF("elf-headers-behind", elf.ehdr.e_phoff = UINT64_MAX - 8);
    WRITE_ELF("elf-segment-wraps", elf.load.p_paddr = UINT64_MAX - 4096);
    WRITE_ELF("elf-segment-large", elf.load.p_memsz = 1ull << 62);
    WRITE_ELF("elf-segment-low", elf.load.p_memsz = elf.load.p_paddr, elf.load.p_paddr = 4096);
    WRITE_ELF("elf-entry", elf.ehdr.e_entry = 0, elf.note.p_type = PT_NULL);
#undef WRITE_ELF
}

/* Fields of the qcow2 header by their offset, in bytes. */
static const struct header_case {
    const char *name;
    unsigned at;
    unsigned len;
    uint64_t value;
} header_cases[] = {
    {"version-1", 4, 4, 1},
    {"version-4", 4, 4, 4},
    {"backing-name-outside", 8, 8, 1ull << 40},
    {"cluster-bits", 20, 4, 8},
    {"cluster-bits-huge", 20, 4, 200},
    {"size-huge", 24, 8, 1ull << 63},
    {"crypt-1", 32, 4, 1},
    {"crypt-2", 32, 4, 2},
    {"l1-huge", 36, 4, UINT32_MAX},
    {"l1-short", 36, 4, 0},
    {"l1-outside", 40, 8, 1ull << 40},
    {"l1-unaligned", 40, 8, 3 * 65536 + 512},
    {"reftable-outside", 48, 8, 1ull << 62},
    {"reftable-huge", 56, 4, UINT32_MAX},
    {"snapshots-huge", 60, 4, UINT32_MAX},
    {"incompatible-2", 72, 8, 1ull << 2},
    {"incompatible-9", 72, 8, 1ull << 9},
    {"incompatible-63", 72, 8, 1ull << 63},
    {"header-length", 100, 4, UINT32_MAX},
    {"extension-huge", 108, 4, UINT32_MAX},
};

static void make_broken_images(const struct mem_disk *good)
{
    static const size_t lens[] = {50, 90, 512, 65536, 150000};
    char name[32];

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        snprintf(name, sizeof(name), "cut-%zu", lens[i]);
        refusal_write_file(name, good->data, lens[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(header_cases); i++) {
        const struct header_case *c = &header_cases[i];
        uint8_t *image = malloc(good->len);

        ck_assert_ptr_nonnull(image);
        memcpy(image, good->data, good->len);
        if (c->len == 4)
            store_be32(image + c->at, (uint32_t)c->value);
        else
            store_be64(image + c->at, c->value);
        if (c->at == 8) /* a name needs a length */
            store_be32(image + 16, 10);
        if (c->at == 108) /* an extension needs a type */
            store_be32(image + 104, 1);
        refusal_write_file(c->name, image, good->len);
        free(image);
    }
}

static void make_overlay(struct mem_disk *disk, const char *name, const char *backing,
                         const char *format)
{
    const struct qcow2_image_options overlay = {
        .refcount_order = 4,
        .size = 8 << 20,
        .backing = backing,
        .backing_format = format,
    };

    qcow2_image_make(disk, &overlay);
    mem_disk_save(disk, name);
}

static void make_images(void)
{
    const struct qcow2_image_options plain = {.refcount_order = 4, .size = 8 << 20};
    const struct qcow2_image_options data_outside = {
        .refcount_order = 4, .size = 8 << 20, .data_file = "/etc/passwd"};
    const struct qcow2_image_options data_inside = {
        .refcount_order = 4, .size = 8 << 20, .data_file = "second"};
    static const char raw[65536];
    char name[32], backing[32];
    struct mem_disk disk;

    mem_disk_init(&disk, "disk");
    qcow2_image_make(&disk, &data_outside);
    mem_disk_save(&disk, "data-outside");
    qcow2_image_make(&disk, &data_inside);
    mem_disk_save(&disk, "data-inside");
    qcow2_image_make(&disk, &plain);
    mem_disk_save(&disk, "disk.qcow2");
    make_broken_images(&disk);
    refusal_write_file("disk.raw", raw, sizeof(raw));

    make_overlay(&disk, "backing-missing", "missing", "raw");
    make_overlay(&disk, "backing-folder", "folder", "raw");
    make_overlay(&disk, "backing-network", "nbd://host/disk", "raw");
    make_overlay(&disk, "backing-format", "disk.raw", "vmdk");
    make_overlay(&disk, "backing-probed-0", "backing-probed-1", NULL);
    make_overlay(&disk, "backing-probed-1", "missing", NULL);
    make_overlay(&disk, "backing-outside", "/etc/passwd", "raw");
    make_overlay(&disk, "backing-self", "backing-self", "qcow2");
    make_overlay(&disk, "backing-loop-0", "backing-loop-1", "qcow2");
    make_overlay(&disk, "backing-loop-1", "backing-loop-0", "qcow2");
    for (unsigned i = 0; i < DEPTH_MAX; i++) {
        snprintf(name, sizeof(name), "deep-%u", i);
        snprintf(backing, sizeof(backing), "deep-%u", i + 1);
        make_overlay(&disk, name, backing, i + 1 < DEPTH_MAX ? "qcow2" : "raw");
    }
    snprintf(name, sizeof(name), "deep-%u", DEPTH_MAX);
    refusal_write_file(name, raw, sizeof(raw));
    mem_disk_done(&disk);
}

static void make_special_files(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd);
    ck_assert_int_eq(mkfifo("fifo", 0600), 0);
    ck_assert_int_eq(mkdir("folder", 0700), 0);
    ck_assert_int_eq(symlink("loop", "loop"), 0);
    ck_assert_int_eq(link("disk.raw", "disk.hard"), 0);
    ck_assert_int_eq(symlink("disk.raw", "disk.link"), 0);
}

/* Once for all tests: none of them may change anything here but config.json. */
static void make_files(void)
{
    static const char text[] = "This is neither a kernel nor a disk.\n";
    static const char gzip[64] = "\x1f\x8b\x08";
    static const char vmdk[1024] = "# Disk DescriptorFile\nversion=1\n";

    refusal_enter_folder();
    refusal_write_kernel();
    make_bzimages();
    make_elfs();
    refusal_write_file("empty", "", 0);
    refusal_write_file("text", text, strlen(text));
    refusal_write_file("second", text, strlen(text));
    refusal_write_file("kernel.gz", gzip, sizeof(gzip));
    refusal_write_file("disk.vmdk", vmdk, sizeof(vmdk));
    refusal_write_file("large", "", 0);
    ck_assert_int_eq(truncate("large", 40 << 20), 0);
    make_images();
    make_special_files();
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* A loop test over a table of refusals. */
#define TEST_REFUSALS(name, table)                                                                 \
    START_TEST(name)                                                                               \
    {                                                                                              \
        refusal_check(&(table)[_i]);                                                               \
    }                                                                                              \
    END_TEST

TEST_REFUSALS(bad_option_is_refused, options)
TEST_REFUSALS(lost_output_is_told, lost_output)
TEST_REFUSALS(bad_configuration_is_refused, configs)
TEST_REFUSALS(bad_kernel_or_initrd_is_refused, boot_files)
TEST_REFUSALS(bad_disk_is_refused, disks)
TEST_REFUSALS(bad_serial_port_is_refused, serials)
TEST_REFUSALS(own_file_is_no_output, own_files)

START_TEST(more_disks_than_slots_are_refused)
{
    struct refusal refusal = {
        .args = {KERNEL}, .code = EXIT_SETUP, .says = {"18 disks", "room for 17"}};

    for (size_t i = 0; i < 18; i++) {
        refusal.args[2 + 2 * i] = "--disk";
        refusal.args[3 + 2 * i] = "disk.raw,readonly=on";
    }
    refusal_check(&refusal);
}
END_TEST

START_TEST(long_path_leaves_room_for_the_reason)
{
    static char path[PATH_MAX + 100];
    const struct refusal refusals[] = {
        {.args = {"--kernel", path}, .code = EXIT_SETUP, .says = {"kernel: xxx", "too long"}},
        {.args = {KERNEL, "--disk", path},
         .code = EXIT_SETUP,
         .says = {"disk vda: xxx", "too long"}},
        {.args = {"--config", path}, .code = EXIT_USAGE, .says = {"xxx", "too long"}},
    };

    memset(path, 'x', sizeof(path) - 1);
    refusal_check(&refusals[_i]);
}
END_TEST

/* What the others rely on: the same files and options, where nothing is wrong. */
START_TEST(good_input_is_taken)
{
    static const char *const args[][VM_ARGS_MAX] = {
        {KERNEL, "--initrd", "text"},
        {KERNEL, "--disk", "disk.qcow2", "--disk", "disk.raw"},
        {KERNEL, "--disk", "text,format=raw"},
        {KERNEL, "--disk", "deep-1,readonly=on", "--serial", "null"},
        {KERNEL, "--memory", "32M", "--cpus", "2"},
        {KERNEL, "--disk", "disk.raw,readonly=on", "--disk", "disk.hard,readonly=on"},
        {KERNEL, "--disk", "deep-63,readonly=on", "--disk", "deep-62"},
        {KERNEL, "--disk", "backing-outside,backing=folder,backing=/etc"},
        {KERNEL, "--disk", "backing-outside,backing=any"},
        {KERNEL, "--disk", "backing-outside,backing=folder", "--backing", "/etc"},
        {KERNEL, "--disk", "backing-outside", "--backing=any"},
    };
    bool touched;
    struct vm vm;
    int code = refusal_run(&vm, args[_i], NULL, &touched);

    assert_exit_code(&vm, code, EXIT_POWER_OFF);
    ck_assert(touched != (_i == 3)); /* not without stdio */
    vm_done(&vm);
}
END_TEST

static void limit_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        _exit(REFUSAL_SKIPPED);
    limit.rlim_cur = 64;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        _exit(REFUSAL_SKIPPED);
}

/* The limit that a shell sets may be raised to the one that the host sets. */
START_TEST(longest_chain_needs_no_more_descriptors_than_there_are)
{
    static const char *const args[] = {KERNEL, "--disk", "deep-1", NULL};
    bool touched;
    struct vm vm;
    int code = refusal_run(&vm, args, limit_descriptors, &touched);

    assert_exit_code(&vm, code, EXIT_POWER_OFF);
    vm_done(&vm);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("bad input");

    tcase_add_unchecked_fixture(tcase, make_files, NULL);
    tcase_add_loop_test(tcase, good_input_is_taken, 0, 11);
    tcase_add_loop_test(tcase, bad_option_is_refused, 0, ARRAY_SIZE(options));
    tcase_add_loop_test(tcase, lost_output_is_told, 0, ARRAY_SIZE(lost_output));
    tcase_add_loop_test(tcase, bad_configuration_is_refused, 0, ARRAY_SIZE(configs));
    tcase_add_loop_test(tcase, bad_kernel_or_initrd_is_refused, 0, ARRAY_SIZE(boot_files));
    tcase_add_loop_test(tcase, bad_disk_is_refused, 0, ARRAY_SIZE(disks));
    tcase_add_loop_test(tcase, bad_serial_port_is_refused, 0, ARRAY_SIZE(serials));
    tcase_add_loop_test(tcase, own_file_is_no_output, 0, ARRAY_SIZE(own_files));
    tcase_add_loop_test(tcase, long_path_leaves_room_for_the_reason, 0, 3);
    tcase_add_test(tcase, longest_chain_needs_no_more_descriptors_than_there_are);
    tcase_add_test(tcase, more_disks_than_slots_are_refused);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest bad input", add_tests)
