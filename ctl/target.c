/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/target.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/vm_names.h"

#define UNIX_PREFIX "unix:"
#define TCP_PREFIX "tcp:"

/* ---- folders --------------------------------------------------------------------------------- */

/*
 * Call `each` for the folders that are there, until it returns other than 0. What is in the place
 * of the second one may be anybody's and says nothing: /tmp is open to all.
 */
static int each_folder(int (*each)(const char *folder, void *opaque, struct err *err), void *opaque,
                       struct err *err)
{
    char *folders[VM_FOLDERS_MAX];
    int r = 0;

    vm_names_folders(folders);
    for (size_t i = 0; i < VM_FOLDERS_MAX && folders[i] && r == 0; i++) {
        r = vm_names_check_folder(folders[i], err);
        if (r == 0)
            r = each(folders[i], opaque, err);
        else if (r == -ENOENT || i > 0)
            r = 0;
    }
    for (size_t i = 0; i < VM_FOLDERS_MAX; i++)
        free(folders[i]);
    return r;
}

/* ---- one VM ---------------------------------------------------------------------------------- */

struct search {
    const char *name;
    unsigned timeout_ms;
    struct link *link; /* NULL: not found yet */
};

/* 1: found. A socket that nobody listens on was left behind. */
static int open_in(const char *folder, void *opaque, struct err *err)
{
    struct search *search = opaque;
    char *path = vm_names_socket(folder, search->name);
    int r;

    if (!path)
        return err_set(err, -ENOMEM, "out of memory");
    r = link_open(path, search->timeout_ms, &search->link, err);
    free(path);
    if (r == -ENOENT || r == -ECONNREFUSED)
        return 0;
    return r < 0 ? r : 1;
}

static int open_name(const char *name, unsigned timeout_ms, struct link **ret_link, struct err *err)
{
    struct search search = {.name = name, .timeout_ms = timeout_ms};
    const char *missing = vm_names_missing_runtime();
    int r;

    if (!vm_name_is_valid(name))
        return err_set(err, -EINVAL, "%s: " VM_NAME_EXPECTED ", or the path of a socket", name);
    r = each_folder(open_in, &search, err);
    if (r == 0 && missing)
        return err_set(err, -ENOENT,
                       "%s: no VM of this name is found: XDG_RUNTIME_DIR: there is no %s", name,
                       missing);
    if (r == 0)
        return err_set(err, -ENOENT, "%s: no VM of this name runs", name);
    if (r < 0) {
        err_prefix(err, "%s", name);
        return r;
    }
    *ret_link = search.link;
    return 0;
}

int target_open(const char *text, unsigned timeout_ms, struct link **ret_link, struct err *err)
{
    bool is_unix = strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0;

    if (is_unix)
        text += strlen(UNIX_PREFIX);
    if (is_unix || strchr(text, '/') || strncmp(text, TCP_PREFIX, strlen(TCP_PREFIX)) == 0)
        return link_open(text, timeout_ms, ret_link, err);
    return open_name(text, timeout_ms, ret_link, err);
}

/* ---- all of them ----------------------------------------------------------------------------- */

struct list {
    struct target *targets;
    size_t n;
};

static int add(struct list *list, const char *folder, const char *name)
{
    struct target *more = realloc(list->targets, (list->n + 1) * sizeof(*more));
    struct target *target;

    if (!more)
        return -ENOMEM;
    list->targets = more;
    target = &more[list->n];
    target->name = strdup(name);
    target->socket = vm_names_socket(folder, name);
    if (!target->name || !target->socket) {
        free(target->name);
        free(target->socket);
        return -ENOMEM;
    }
    list->n++;
    return 0;
}

/* Cuts off the suffix. False: that is no socket of a VM. */
static bool is_vm(char *file)
{
    size_t len = strlen(file);
    size_t suffix = strlen(VM_NAMES_SUFFIX);

    if (len <= suffix || strcmp(file + len - suffix, VM_NAMES_SUFFIX) != 0)
        return false;
    file[len - suffix] = '\0';
    return vm_name_is_valid(file);
}

static int list_folder(const char *folder, void *opaque, struct err *err)
{
    struct dirent *entry;
    DIR *dir = opendir(folder);
    int r = 0;

    if (!dir)
        return err_set_errno(err, -errno, "%s", folder);
    while (r == 0 && (entry = readdir(dir)))
        if (is_vm(entry->d_name))
            r = add(opaque, folder, entry->d_name);
    closedir(dir);
    return r < 0 ? err_set(err, r, "out of memory") : 0;
}

static int compare(const void *a, const void *b)
{
    const struct target *first = a;
    const struct target *second = b;

    return strcmp(first->name, second->name);
}

int targets_find(struct target **ret_targets, size_t *ret_n, struct err *err)
{
    struct list list = {0};
    int r = each_folder(list_folder, &list, err);

    if (r < 0) {
        targets_free(list.targets, list.n);
        return r;
    }
    if (list.n > 0)
        qsort(list.targets, list.n, sizeof(*list.targets), compare);
    *ret_targets = list.targets;
    *ret_n = list.n;
    return 0;
}

void targets_free(struct target *targets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(targets[i].name);
        free(targets[i].socket);
    }
    free(targets);
}
