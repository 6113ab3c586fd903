/* SPDX-License-Identifier: Apache-2.0 */
#include "block/probe.h"

#include <errno.h>
#include <string.h>

#include "block/block.h"

/*
 * Versions and variants of a format that QEMU does not read are listed, too: they are no raw disks
 * either.
 */
static const struct {
    char format[12];
    unsigned off;
    unsigned len;
    char mark[24];
} marks[] = {
    {"qcow", 0, 8, "QFI\xfb\0\0\0\1"},
    {"qcow2", 0, 4, "QFI\xfb"},
    {"qed", 0, 4, "QED\0"},
    {"vmdk", 0, 4, "KDMV"},
    {"vmdk", 0, 4, "COWD"},
    {"vhdx", 0, 8, "vhdxfile"},
    {"vpc", 0, 8, "conectix"},
    {"vdi", 64, 4, "\x7f\x10\xda\xbe"},
    {"luks", 0, 8, "LUKS\xba\xbe\0\1"},
    {"luks", 0, 8, "LUKS\xba\xbe\0\2"},
    {"parallels", 0, 16, "WithoutFreeSpace"},
    {"parallels", 0, 16, "WithouFreSpacExt"},
    {"bochs", 0, 23, "Bochs Virtual HD Image"},
    {"cloop", 0, 23, "#!/bin/sh\n#V2.0 Format\n"},
};

/*
 * A VMDK descriptor is text. QEMU takes a file for one if it begins with a line "version=…", after
 * lines that are blank or comments.
 */
static bool is_vmdk_text(const char *text, const char *end)
{
    static const char version[] = "version=";

    while (text < end) {
        if (*text == '#') {
            text = memchr(text, '\n', (size_t)(end - text));
            if (!text)
                return false;
        } else if (*text != ' ' && *text != '\n' && *text != '\r') {
            return (size_t)(end - text) >= sizeof(version) - 1 &&
                   memcmp(text, version, sizeof(version) - 1) == 0;
        }
        text++;
    }
    return false;
}

const char *probe_sector(const uint8_t sector[PROBE_LEN])
{
    const char *text = (const char *)sector;

    for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
        if (memcmp(text + marks[i].off, marks[i].mark, marks[i].len) == 0)
            return marks[i].format;
    return is_vmdk_text(text, text + PROBE_LEN) ? "vmdk" : NULL;
}

const char *probe_file(const uint8_t sector[PROBE_LEN], const char *path)
{
    static const char dmg[] = ".dmg"; /* its mark is at the file's end; QEMU goes by the name */
    const char *format = probe_sector(sector);
    size_t len = strlen(path);

    if (!format && len >= strlen(dmg) && strcmp(path + len - strlen(dmg), dmg) == 0)
        return "dmg";
    return format;
}

int probe_refuse(const char *path, const char *format, struct err *err)
{
    return err_set(err, -ENOTSUP,
                   "%s: a %s image, expected qcow2 or raw: convert it first (format raw takes the "
                   "file as it is)",
                   path, format);
}
