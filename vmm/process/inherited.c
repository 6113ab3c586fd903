/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "base/std_fds.h"

struct named {
    unsigned *fds;
    size_t n;
};

static void add_named(struct named *named, const char *path)
{
    static const char folders[][16] = {"/dev/fd/", "/proc/self/fd/"};

    for (size_t i = 0; path && i < ARRAY_SIZE(folders); i++) {
        size_t len = strlen(folders[i]);
        uint64_t fd;

        if (strncmp(path, folders[i], len) == 0 && parse_u64(path + len, &fd) == 0 && fd <= INT_MAX)
            named->fds[named->n++] = (unsigned)fd;
    }
}

static void add_places(struct named *named, const struct config_places *places)
{
    for (unsigned i = 0; i < places->n; i++)
        add_named(named, places->paths[i]);
}

/* A tap that whoever starts the program has opened is named by its number. */
static int add_net(struct named *named, const struct config_net *net, struct err *err)
{
    int fd;

    if (!config_net_fd(net, &fd))
        return 0;
    if (fcntl(fd, F_GETFD) < 0)
        return err_set_errno(err, -errno, "net: fd %d: expected one that was open at the start",
                             fd);
    named->fds[named->n++] = (unsigned)fd;
    return 0;
}

/* Settings of one path, as inherited_close lists them. */
#define NSINGLE 6

static size_t count_names(const struct config *config)
{
    size_t n = NSINGLE + config->ninitrds + config->ndisks + config->nnets + config->nshares +
               config->backing.n;

    for (size_t i = 0; i < config->ndisks; i++)
        n += config->disks[i].backing.n;
    return n;
}

int inherited_close(const struct config *config, struct err *err)
{
    const char *const single[NSINGLE] = {config->file,         config->kernel,
                                         config->kernel_cache, config->serial.path,
                                         config->console.path, config->boot_trace};
    int r = 0;
    struct named named = {.fds = calloc(count_names(config), sizeof(unsigned))};

    if (!named.fds)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < NSINGLE; i++)
        add_named(&named, single[i]);
    for (size_t i = 0; i < config->ninitrds; i++)
        add_named(&named, config->initrds[i]);
    add_places(&named, &config->backing);
    for (size_t i = 0; i < config->ndisks; i++) {
        add_named(&named, config->disks[i].path);
        add_places(&named, &config->disks[i].backing);
    }
    for (size_t i = 0; i < config->nshares; i++)
        add_named(&named, config->shares[i].path);
    for (size_t i = 0; r == 0 && i < config->nnets; i++)
        r = add_net(&named, &config->nets[i], err);
    if (r == 0)
        std_fds_close_others(named.fds, named.n);
    free(named.fds);
    return r;
}
