/* SPDX-License-Identifier: Apache-2.0 */
#include "base/vm_names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unix_socket.h"

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

bool vm_name_is_valid(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= VM_NAME_MAX && strspn(name, LETTERS_AND_DIGITS) > 0 &&
           strspn(name, LETTERS_AND_DIGITS "-_.") == len;
}

/* XDG_RUNTIME_DIR; NULL: it is not set, or no absolute path. */
static const char *runtime_folder(void)
{
    const char *folder = getenv("XDG_RUNTIME_DIR");

    return folder && folder[0] == '/' ? folder : NULL;
}

const char *vm_names_missing_runtime(void)
{
    const char *folder = runtime_folder();

    return folder && access(folder, F_OK) < 0 && errno == ENOENT ? folder : NULL;
}

static char *fallback(void)
{
    char *folder = NULL;

    if (geteuid() == 0)
        return strdup("/run/minivmm");
    return asprintf(&folder, "/tmp/minivmm-%u", geteuid()) < 0 ? NULL : folder;
}

static char *folder_below(const char *runtime)
{
    char *folder = NULL;

    return asprintf(&folder, "%s/minivmm", runtime) < 0 ? NULL : folder;
}

/* What the variable usually leads to, where systemd sets it. */
static char *usual_folder(void)
{
    char *folder = NULL;

    return asprintf(&folder, "/run/user/%u/minivmm", geteuid()) < 0 ? NULL : folder;
}

/* Takes it over, unless it is one of the `n` that are there. How many there are now. */
static size_t add_folder(char *folders[VM_FOLDERS_MAX], size_t n, char *folder)
{
    for (size_t i = 0; folder && i < n; i++) {
        if (strcmp(folders[i], folder) == 0) {
            free(folder);
            folder = NULL;
        }
    }
    if (!folder)
        return n;
    folders[n] = folder;
    return n + 1;
}

void vm_names_folders(char *ret_folders[VM_FOLDERS_MAX])
{
    const char *runtime = runtime_folder();
    size_t n = 0;

    for (size_t i = 0; i < VM_FOLDERS_MAX; i++)
        ret_folders[i] = NULL;
    if (runtime)
        n = add_folder(ret_folders, n, folder_below(runtime));
    n = add_folder(ret_folders, n, fallback());
    (void)add_folder(ret_folders, n, usual_folder());
}

int vm_names_check_folder(const char *folder, struct err *err)
{
    struct stat st;

    if (lstat(folder, &st) < 0)
        return err_set_errno(err, -errno, "%s", folder);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, -ENOTDIR, "%s: expected a folder", folder);
    if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return err_set(err, -EPERM,
                       "%s: expected a folder of this user with mode 0700, not of user %u with "
                       "mode %04o",
                       folder, st.st_uid, st.st_mode & 07777);
    return 0;
}

char *vm_names_socket(const char *folder, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s" VM_NAMES_SUFFIX, folder, name) < 0 ? NULL : path;
}

char *vm_names_other_socket(const char *name)
{
    char *folders[VM_FOLDERS_MAX];
    char *path = NULL;

    vm_names_folders(folders);
    for (size_t i = 1; i < VM_FOLDERS_MAX && folders[i] && !path; i++) {
        struct err ignored; /* what is in its place may be anybody's, and says nothing */

        if (vm_names_check_folder(folders[i], &ignored) < 0)
            continue;
        path = vm_names_socket(folders[i], name);
        if (path && !unix_socket_is_used(path)) {
            free(path);
            path = NULL;
        }
    }
    for (size_t i = 0; i < VM_FOLDERS_MAX; i++)
        free(folders[i]);
    return path;
}

/* What another process makes at the same time is as good. */
static int make_folder(const char *folder, struct err *err)
{
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return err_set_errno(err, -errno, "%s: cannot make the folder of control sockets", folder);
    return vm_names_check_folder(folder, err);
}

int vm_names_new_socket(const char *name, char **ret_path, struct err *err)
{
    char *folders[VM_FOLDERS_MAX];
    char *path;
    int r;

    if (!vm_name_is_valid(name))
        return err_set(err, -EINVAL, "%s: " VM_NAME_EXPECTED, name);
    vm_names_folders(folders);
    path = folders[0] ? vm_names_socket(folders[0], name) : NULL;
    r = path ? make_folder(folders[0], err) : err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < VM_FOLDERS_MAX; i++)
        free(folders[i]);
    if (r < 0)
        free(path);
    else
        *ret_path = path;
    return r;
}
