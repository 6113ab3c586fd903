/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/virtiofsd.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"

/* It gets its socket as the first descriptor after the standard ones. */
#define FD_OPTION "--fd=3"

#define ARGS_MAX 32u

struct program {
    char path[28];
    bool old; /* the one in C */
};

/* Where distributions have it; the successor first. */
static const struct program programs[] = {
    {"/usr/libexec/virtiofsd", false},   {"/usr/lib/virtiofsd", false},
    {"/usr/local/bin/virtiofsd", false}, {"/usr/bin/virtiofsd", false},
    {"/usr/lib/qemu/virtiofsd", true},
};

static const struct program *find_program(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
        if (access(programs[i].path, X_OK) == 0)
            return &programs[i];
    return NULL;
}

/* ---- mounts ---------------------------------------------------------------------------------- */

/* Take \ooo out of a word of /proc/self/mountinfo, in place. */
static void unescape(char *word)
{
    char *to = word;

    for (const char *from = word; *from; to++) {
        unsigned code;

        if (from[0] == '\\' && sscanf(from + 1, "%3o", &code) == 1 && strlen(from) >= 4) {
            *to = (char)code;
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* The folder is not the root, which was refused before. */
static bool is_below(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && path[len] == '/';
}

/* Is something mounted below the folder? If that cannot be known: yes. */
static bool has_mounts(const char *folder)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char *line = NULL, *place = NULL;
    bool found = !file;
    size_t size = 0;

    while (file && !found && getline(&line, &size, file) > 0) {
        if (sscanf(line, "%*s %*s %*s %*s %ms", &place) != 1)
            continue;
        unescape(place);
        found = is_below(place, folder);
        free(place);
    }
    free(line);
    if (file)
        (void)fclose(file); /* it was only read */
    return found;
}

/*
 * The old program cannot refuse writes, but it inherits mounts. In a user namespace, a mount may
 * not lose what it forbids, so that is repeated.
 */
static const char *readonly_mount_options(const char *folder, char text[64])
{
    struct statvfs fs = {0};

    (void)statvfs(folder, &fs); /* then the mount fails, if there is something to be repeated */
    (void)snprintf(text, 64, "remount,bind,ro%s%s%s", fs.f_flag & ST_NOSUID ? ",nosuid" : "",
                   fs.f_flag & ST_NODEV ? ",nodev" : "", fs.f_flag & ST_NOEXEC ? ",noexec" : "");
    return text;
}

int virtiofsd_check(const struct virtiofsd_options *options, struct err *err)
{
    const struct program *program = find_program();

    if (!program)
        return err_set(err, -ENOENT,
                       "virtiofsd is missing: install the package virtiofsd (in Debian 12: "
                       "qemu-system-common)");
    /* It cannot leave the host's root for a new one that is the same. */
    if (program->old && strcmp(options->folder, "/") == 0)
        return err_set(err, -ENOTSUP,
                       "%s cannot share the host's root folder: expected folders below it",
                       program->path);
    if (options->readonly && program->old && has_mounts(options->folder))
        return err_set(err, -ENOTSUP,
                       "readonly: something is mounted below the folder, where %s cannot refuse "
                       "writes: expected a folder without mounts, or a newer virtiofsd",
                       program->path);
    return 0;
}

/* ---- users ----------------------------------------------------------------------------------- */

struct user {
    char id[16];
    char line[1024];  /* of /etc/passwd, the beginning */
    const char *name; /* NULL: it has none */
};

/* Is that a line of the user's, who gets the name from it? */
static bool names_user(struct user *user)
{
    char *rest = user->line;
    const char *name = strsep(&rest, ":");
    const char *id;

    (void)strsep(&rest, ":"); /* the password's place */
    id = strsep(&rest, ":");
    if (!id || strcmp(id, user->id) != 0)
        return false;
    user->name = name;
    return true;
}

/*
 * The name is the one that newuidmap looks for. A static program has no getpwuid() that works: who
 * is in no file but has $USER is known to another service.
 */
static void look_up_user(struct user *user)
{
    FILE *file = fopen("/etc/passwd", "re");
    bool begins = true;

    user->name = getenv("USER");
    (void)snprintf(user->id, sizeof(user->id), "%u", (unsigned)getuid());
    while (file && fgets(user->line, sizeof(user->line), file)) {
        const bool ends = strchr(user->line, '\n');

        if (begins && names_user(user)) /* what else is in a long line does not matter */
            break;
        begins = ends;
    }
    if (file)
        (void)fclose(file); /* it was only read */
}

/* Has the user a line in /etc/subuid, or in /etc/subgid? */
static bool has_line(const char *path, const struct user *user)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    bool found = false;
    size_t size = 0;

    while (file && !found && getline(&line, &size, file) > 0) {
        line[strcspn(line, ":")] = '\0';
        found = strcmp(line, user->id) == 0 || (user->name && strcmp(line, user->name) == 0);
    }
    free(line);
    if (file)
        (void)fclose(file); /* it was only read */
    return found;
}

static bool has_subordinate_ids(void)
{
    struct user user;

    look_up_user(&user);
    return access("/usr/bin/newuidmap", X_OK) == 0 && has_line("/etc/subuid", &user) &&
           has_line("/etc/subgid", &user);
}

/* ---- arguments ------------------------------------------------------------------------------- */

struct args {
    const char *argv[ARGS_MAX + 1];
    unsigned n;
    char mount_options[64];
    char source[2 * PATH_MAX + 16];
};

static void add(struct args *args, const char *arg)
{
    assert(args->n < ARGS_MAX);
    args->argv[args->n++] = arg;
}

/* In a list of options, where commas part them. */
static const char *source_option(const char *folder, char *text)
{
    char *to = text + sprintf(text, "source=");

    for (; *folder; folder++) {
        if (*folder == ',' || *folder == '\\')
            *to++ = '\\';
        *to++ = *folder;
    }
    *to = '\0';
    return text;
}

static void add_user(struct args *args)
{
    if (geteuid() == 0)
        return;
    add(args, "--map-root-user");
    if (has_subordinate_ids())
        add(args, "--map-auto");
}

static void add_readonly_mount(struct args *args, const char *folder)
{
    static const char words[][80] = {
        "--mount",
        "--propagation",
        "private",
        "--",
        "/bin/sh",
        "-c",
        "mount --rbind \"$1\" \"$1\" && mount -o \"$2\" \"$1\" && shift 2 && exec \"$@\"",
        "sh",
    };

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        add(args, words[i]);
    add(args, folder);
    add(args, readonly_mount_options(folder, args->mount_options));
}

static void make_args(struct args *args, const struct virtiofsd_options *options,
                      const struct program *program)
{
    const bool mounts = options->readonly && program->old;

    args->n = 0;
    if (geteuid() != 0 || mounts)
        add(args, "unshare");
    add_user(args);
    if (mounts)
        add_readonly_mount(args, options->folder);
    add(args, program->path);
    add(args, FD_OPTION);
    if (program->old) {
        add(args, "-f");
        add(args, "-o");
        add(args, "log_level=err");
        add(args, "-o");
        add(args, source_option(options->folder, args->source));
    } else {
        add(args, "--log-level=error");
        add(args, "--shared-dir");
        add(args, options->folder);
        if (options->readonly)
            add(args, "--readonly");
    }
    args->argv[args->n] = NULL;
}

/* ---- its socket ------------------------------------------------------------------------------ */

/* A socket that listens at `path`, and one that is connected to it. 0 or -errno. */
static int connect_at(const char *path, int ret_pair[2])
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const struct sockaddr *at = (const struct sockaddr *)&addr;
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = -ENAMETOOLONG;

    if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path) < sizeof(addr.sun_path))
        r = listening < 0 || sock < 0 || bind(listening, at, sizeof(addr)) < 0 ||
                    listen(listening, 1) < 0 || connect(sock, at, sizeof(addr)) < 0
                ? -errno
                : 0;
    if (r == 0) {
        ret_pair[0] = listening;
        ret_pair[1] = sock;
        return 0;
    }
    if (listening >= 0)
        close(listening);
    if (sock >= 0)
        close(sock);
    return r;
}

/*
 * It accepts one connection, which is there before it is started, and at a place where nobody else
 * could connect. The name is not needed any more.
 */
static int connect_before(int ret_pair[2], struct err *err)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)], path[sizeof(folder) + 8];
    int r = -ENAMETOOLONG;

    if ((size_t)snprintf(folder, sizeof(folder), "%s/minivmm-XXXXXX",
                         runtime && access(runtime, W_OK) == 0 ? runtime : "/tmp") <
        sizeof(folder)) {
        r = mkdtemp(folder) ? 0 : -errno;
    }
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot make a folder for a socket", folder);
    (void)snprintf(path, sizeof(path), "%s/fs", folder);
    r = connect_at(path, ret_pair);
    (void)unlink(path); /* it may not be there */
    (void)rmdir(folder);
    return r < 0 ? err_set_errno(err, r, "%s: cannot make a socket", path) : 0;
}

static int start_with(const struct virtiofsd_options *options, const struct program *program,
                      int listening, struct helper_process **ret_process, struct err *err)
{
    /* If it hangs, it does not notice that we are gone. */
    struct helper_spec spec = {
        .name = "virtiofsd", .fds = &listening, .nfds = 1, .death_signal = SIGKILL};
    struct args *args = malloc(sizeof(*args));
    int r;

    if (!args)
        return err_set(err, -ENOMEM, "out of memory");
    make_args(args, options, program);
    spec.argv = args->argv;
    r = helper_process_start(&spec, ret_process, err);
    free(args);
    return r;
}

int virtiofsd_start(const struct virtiofsd_options *options, struct helper_process **ret_process,
                    int *ret_sock, struct err *err)
{
    const struct program *program = find_program();
    int pair[2] = {-1, -1};
    int r = virtiofsd_check(options, err);

    if (r == 0)
        r = connect_before(pair, err);
    if (r < 0)
        return r;
    r = start_with(options, program, pair[0], ret_process, err);
    close(pair[0]); /* it is the program's now: its end resets the connection */
    if (r < 0)
        close(pair[1]);
    else
        *ret_sock = pair[1];
    return r;
}

const char *virtiofsd_hint(const char *line)
{
    if (strstr(line, "setgroups"))
        return ": as a user of several groups, this version of virtiofsd needs subordinate ids: "
               "install the package uidmap, and see that /etc/subuid and /etc/subgid have a line "
               "for the user";
    if (strstr(line, "unshare --help")) /* it does not know an option */
        return ": for a user with subordinate ids, unshare must be that of util-linux 2.38 or "
               "later";
    if (strstr(line, "unshare"))
        return ": virtiofsd needs user namespaces, which are not allowed here: in a chroot, or by "
               "a sysctl (user.max_user_namespaces, kernel.unprivileged_userns_clone)";
    return "";
}
