/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/attached.h"

#include <errno.h>
#include <stdlib.h>

void attachments_init(struct attachments *attachments, const struct config *config,
                      struct open_files *files, struct loop *main)
{
    *attachments = (struct attachments){.config = config, .files = files, .main = main};
}

int attachments_add(struct attachments *attachments, struct attached *attached, struct err *err)
{
    struct attached **list =
        realloc(attachments->list, (attachments->n + 1) * sizeof(struct attached *));

    if (!list)
        return err_set(err, -ENOMEM, "out of memory");
    attachments->list = list;
    list[attachments->n++] = attached;
    return 0;
}

struct loop *attachments_loop(struct attachments *attachments, struct err *err)
{
    if (!attachments->has_shared) {
        if (loop_thread_start(&attachments->shared, "devices", err) < 0)
            return NULL;
        attachments->has_shared = true;
    }
    return attachments->shared.loop;
}

void attachments_close(struct attachments *attachments)
{
    while (attachments->n > 0) {
        struct attached *attached = attachments->list[--attachments->n];

        attached->ops->close(attached);
    }
    free(attachments->list);
    attachments->list = NULL;
    free(attachments->nics);
    attachments->nics = NULL;
    attachments->nnics = 0;
    if (attachments->has_shared) {
        loop_thread_stop(&attachments->shared);
        loop_thread_free(&attachments->shared);
    }
    attachments->has_shared = false;
}
