/* SPDX-License-Identifier: Apache-2.0 */
#include "block/confine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The folder of a path, without symbolic links, to be freed. 0 or -errno. */
static int find_folder(const char *path, char **ret_folder)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

    if (!dir)
        return -ENOMEM;
    *ret_folder = realpath(dir, NULL);
    free(dir);
    return *ret_folder ? 0 : -errno;
}

static int add_allowed(struct block_confine *confine, const char *place, struct err *err)
{
    char *real = realpath(place, NULL);

    if (!real)
        return err_set_errno(err, -errno, "backing=%s", place);
    confine->places[confine->nplaces++] = real;
    if (strcmp(real, "/") == 0)
        confine->on = false; /* all files; as a place it would allow only those right in it */
    return 0;
}

int block_confine_init(struct block_confine *confine, const struct block_options *options,
                       struct err *err)
{
    int r;

    *confine = (struct block_confine){.on = options->confined};
    if (!confine->on)
        return 0;
    confine->places = calloc(options->nallowed + 1, sizeof(*confine->places));
    if (!confine->places)
        return err_set(err, -ENOMEM, "%s: out of memory", options->path);
    r = find_folder(options->path, &confine->places[0]);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot open", options->path);
    confine->nplaces = 1;
    for (unsigned i = 0; r == 0 && i < options->nallowed; i++)
        r = add_allowed(confine, options->allowed[i], err);
    return r;
}

void block_confine_done(struct block_confine *confine)
{
    for (unsigned i = 0; i < confine->nplaces; i++)
        free(confine->places[i]);
    free(confine->places);
}

const struct host_places *block_confine_places(const struct block_confine *confine,
                                               const struct file *namer, struct host_places *places)
{
    /* The folder of a device allows nothing: it holds all devices of the host. */
    unsigned first = namer == confine->top && namer->home ? 0 : 1;

    if (!confine->on)
        return NULL;
    *places = (struct host_places){
        .home = namer->home,
        .paths = (const char *const *)confine->places + first,
        .npaths = confine->nplaces - first,
    };
    return places;
}
