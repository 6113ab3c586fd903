#include "tests/lib/qemu_oracle.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/compiler.h"

/* What `qemu-img check` says of an image with leaked clusters and nothing worse. */
#define QEMU_LEAKS 3

bool qemu_oracle_available(void)
{
    return system("qemu-img --version > /dev/null 2>&1") == 0;
}

/* Exit status of a command in the folder. */
static int PRINTF_LIKE(2, 3) shell(const char *dir, const char *fmt, ...)
{
    char command[256];
    va_list args;
    int n = snprintf(command, sizeof(command), "cd %s && ", dir);
    int status;

    va_start(args, fmt);
    vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, args);
    va_end(args);
    status = system(command); /* NOLINT: commands of our own */
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char *ask(const char *dir, const char *image, bool dirty, bool compare)
{
    int status;

    if (dirty && shell(dir, "qemu-img check -q -f qcow2 -r all %s >> log 2>&1", image) != 0)
        return "qemu-img cannot repair a dirty image";
    status = shell(dir, "qemu-img check -q -f qcow2 %s >> log 2>&1", image);
    if (status != 0 && status != QEMU_LEAKS)
        return "qemu-img check finds errors";
    if (compare &&
        shell(dir, "qemu-img compare -q -f raw -F qcow2 contents %s >> log 2>&1", image) != 0)
        return "qemu-img compare finds other contents";
    return NULL;
}

const char *qemu_oracle_check(const struct mem_disk *disks, unsigned ndisks,
                              const uint8_t *contents, uint64_t len)
{
    static char text[160];
    char dir[] = "/tmp/minivmm-oracle-XXXXXX";
    bool dirty = load_be32(disks[0].data + 4) == 3 && (disks[0].data[79] & 1);
    char path[64];
    const char *wrong;

    if (!mkdtemp(dir))
        return "mkdtemp fails";
    for (unsigned i = 0; i < ndisks; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, disks[i].name);
        mem_disk_save(&disks[i], path);
    }
    if (contents) {
        struct mem_disk model = {.data = (uint8_t *)(uintptr_t)contents, .len = len};

        snprintf(path, sizeof(path), "%s/contents", dir);
        mem_disk_save(&model, path);
    }
    wrong = ask(dir, disks[0].name, dirty, contents != NULL);
    if (!wrong) {
        (void)shell(dir, "rm -rf %s", dir); /* a folder left in /tmp harms nobody */
        return NULL;
    }
    snprintf(text, sizeof(text), "%s, see %s", wrong, dir);
    return text;
}
