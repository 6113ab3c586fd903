/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/share.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/virtio/virtio_fs.h"
#include "vmm/attached/virtiofsd.h"

_Static_assert(CONFIG_TAG_MAX == VIRTIO_FS_TAG_MAX, "what is accepted is what guests are told");

/* How long virtiofsd may take to end once its connection is closed. */
#define END_MS 1000

struct share {
    struct attached attached;
    const struct config_share *config;
    char *folder; /* where config->path leads */
    struct loop_thread thread;
    struct virtio_dev *dev; /* NULL: no guest is there; owner: main thread */
    /* Owner: the loop's thread while there is a device, else the main one. NULL: it was ended. */
    struct helper_process *process;
};

static struct share *share_of(struct attached *attached)
{
    return container_of(attached, struct share, attached);
}

static struct virtiofsd_options daemon_options(const struct share *share)
{
    return (struct virtiofsd_options){
        .folder = share->folder,
        .readonly = share->config->readonly,
    };
}

/* ---- virtiofsd, on the loop's thread --------------------------------------------------------- */

/* Its connection tells the device, and that tells of the loss. */
static void ended(void *opaque)
{
}

static void watch(void *opaque)
{
    struct share *share = opaque;

    if (!share->process) /* it is lost already */
        return;
    /* Who does not read what it prints lets it wait. */
    if (helper_process_watch(share->process, share->thread.loop, ended, share) < 0)
        log_warn("share %s: what virtiofsd prints is not read", share->config->tag);
}

static void end_process(void *opaque)
{
    struct share *share = opaque;

    helper_process_end(share->process, END_MS);
    share->process = NULL;
}

static void lost(void *opaque, int error)
{
    struct share *share = opaque;
    const char *tag = share->config->tag;

    helper_process_unwatch(share->process);
    if (error != -ECONNRESET)
        log_error("share %s: virtiofsd %s: it is ended, and the guest has the folder no more until "
                  "it restarts",
                  tag, error == -ETIMEDOUT ? "does not answer" : "answers wrongly");
    else if (helper_process_wait(share->process, -1, END_MS) == -ESRCH)
        log_error("share %s: virtiofsd has ended (%s): every access of the guest to the folder "
                  "fails until it restarts",
                  tag, helper_process_fate(share->process));
    else
        log_error("share %s: virtiofsd has closed its connection: every access of the guest to the "
                  "folder fails until it restarts",
                  tag);
    helper_process_end(share->process, 0);
    share->process = NULL;
}

/* ---- guests ---------------------------------------------------------------------------------- */

static void freed(void *opaque)
{
    struct share *share = opaque;

    share->dev = NULL;
    loop_call(share->thread.loop, end_process, share);
}

/* Why the device cannot be made: mostly because virtiofsd has ended. */
static int explain(struct share *share, int r, struct err *err)
{
    const char *tag = share->config->tag;

    if (helper_process_wait(share->process, -1, r == -ECONNRESET ? END_MS : 0) == -ESRCH)
        return err_set(err, r, "share %s: virtiofsd: %s%s", tag,
                       helper_process_fate(share->process),
                       virtiofsd_hint(helper_process_line(share->process)));
    return err_set_errno(err, r, "share %s: virtiofsd cannot be used", tag);
}

static int make_device(struct attached *attached, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev, struct err *err)
{
    struct share *share = share_of(attached);
    const struct virtiofsd_options daemon = daemon_options(share);
    struct virtio_fs_options options = {
        .loop = share->thread.loop,
        .tag = share->config->tag,
        .start_ms = VIRTIO_FS_START_MS,
        .timeout_ms = VIRTIO_FS_TIMEOUT_MS,
        .lost = lost,
        .freed = freed,
        .opaque = share,
    };
    int r = virtiofsd_start(&daemon, &share->process, &options.sock, err);

    if (r < 0) {
        err_prefix(err, "share %s", share->config->tag);
        return r;
    }
    r = virtio_fs_new(&options, mem, &share->dev);
    if (r < 0) {
        r = explain(share, r, err);
        end_process(share);
        return r;
    }
    loop_call(share->thread.loop, watch, share);
    *ret_dev = share->dev;
    return 0;
}

static void cancel(struct attached *attached)
{
    if (share_of(attached)->dev)
        virtio_fs_cancel(share_of(attached)->dev);
}

static void close_share(struct attached *attached)
{
    struct share *share = share_of(attached);

    loop_thread_stop(&share->thread);
    loop_thread_free(&share->thread);
    free(share->folder);
    free(share);
}

static const struct attached_ops share_ops = {
    .make_device = make_device,
    .cancel = cancel,
    .close = close_share,
};

/* ---- setting up ------------------------------------------------------------------------------ */

/* What would fail for each guest fails here. */
static int check(const struct share *share, struct err *err)
{
    const struct virtiofsd_options daemon = daemon_options(share);
    struct stat st;

    if (stat(share->folder, &st) < 0)
        return err_set_errno(err, -errno, "%s: cannot be found", share->config->path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, -ENOTDIR, "%s: expected a folder", share->config->path);
    return virtiofsd_check(&daemon, err);
}

static int find_folder(struct share *share, struct err *err)
{
    int r;

    share->folder = realpath(share->config->path, NULL);
    if (share->folder)
        r = check(share, err);
    else
        r = err_set_errno(err, -errno, "%s: cannot be found", share->config->path);
    if (r < 0)
        err_prefix(err, "share %s", share->config->tag);
    return r;
}

static int attach(struct attachments *attachments, unsigned index, struct err *err)
{
    struct share *share = calloc(1, sizeof(*share));
    char name[16];
    int r;

    if (!share)
        return err_set(err, -ENOMEM, "out of memory");
    share->attached.ops = &share_ops;
    share->config = &attachments->config->shares[index];
    (void)snprintf(name, sizeof(name), "share%u", index);
    r = find_folder(share, err);
    if (r == 0)
        r = loop_thread_start(&share->thread, name, err);
    if (r < 0) {
        free(share->folder);
        free(share);
        return r;
    }
    r = attachments_add(attachments, &share->attached, err);
    if (r < 0)
        close_share(&share->attached);
    return r;
}

int share_attach(struct attachments *attachments, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < attachments->config->nshares; i++)
        r = attach(attachments, i, err);
    return r;
}
