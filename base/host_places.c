/* SPDX-License-Identifier: Apache-2.0 */
#include "base/host_places.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Cut the last part off a path, in place. */
static void cut_to_folder(char *path)
{
    char *slash = strrchr(path, '/');

    slash[slash == path] = '\0';
}

bool host_places_is_at(const char *place, const char *path)
{
    size_t len = strlen(place);

    if (len == 1) /* "/" */
        return strchr(path + 1, '/') == NULL;
    return strncmp(path, place, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool is_allowed(const struct host_places *places, const char *path)
{
    if (places->home && host_places_is_at(places->home, path))
        return true;
    for (unsigned i = 0; i < places->npaths; i++)
        if (host_places_is_at(places->paths[i], path))
            return true;
    return false;
}

/*
 * What to suggest that the user allows, written as --disk takes it, with commas doubled. That is
 * the folder of the file; for a device and for a file in / it is the file alone, because all of
 * /dev or / would be too much.
 */
static char *place_to_allow(const struct host_path *path, const char *real)
{
    bool device = S_ISBLK(path->st.st_mode);
    const char *from = device ? path->name : real;
    const char *slash = strrchr(real, '/');
    size_t len = device || slash == real ? strlen(from) : (size_t)(slash - real);
    char *place = malloc(2 * len + 1);
    char *to = place;

    if (!place)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        if (from[i] == ',')
            *to++ = ',';
        *to++ = from[i];
    }
    *to = '\0';
    return place;
}

static int refuse(const struct host_places *places, const struct host_path *path, const char *real,
                  struct err *err)
{
    char *place = place_to_allow(path, real);

    if (!place)
        return err_set(err, -ENOMEM, "%s: out of memory", path->name);
    if (places->home)
        err_set(err, -EPERM,
                "%s: lies outside of %s: if the image may use it, add backing=%s to --disk", real,
                places->home, place);
    else
        err_set(err, -EPERM,
                "%s: is named by an image on a device: if it may use it, add backing=%s to --disk",
                real, place);
    free(place);
    return -EPERM;
}

int host_places_check(const struct host_places *places, const struct host_path *path,
                      struct err *err)
{
    char *real = host_path_real(path);
    int r = 0;

    if (!real)
        return err_set(err, -EPERM,
                       "%s: cannot tell where it lies, for which /proc is needed: add backing=any "
                       "to --disk if the image may name any file",
                       path->name);
    if (!is_allowed(places, real))
        r = refuse(places, path, real, err);
    free(real);
    return r;
}

char *host_places_home(const struct host_path *path)
{
    char *real = S_ISBLK(path->st.st_mode) ? NULL : host_path_real(path);

    if (real)
        cut_to_folder(real);
    return real;
}
