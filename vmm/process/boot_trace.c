/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/boot_trace.h"

#include <errno.h>
#include <unistd.h>

#include "base/trace.h"

int boot_trace_check(const struct boot_trace *trace, const struct open_files *files,
                     struct err *err)
{
    int r = trace->path ? open_files_check_path(files, trace->path, err) : 0;

    if (r < 0)
        err_prefix(err, "boot trace");
    return r;
}

int boot_trace_open(struct boot_trace *trace, struct open_files *files, struct err *err)
{
    const struct open_file_use use = {
        .path = trace->path, .writable = true, .role = "the boot trace"};
    int r;

    if (!trace->path || trace->fd >= 0)
        return 0;
    r = open_files_open_output(files, trace->path, &trace->fd, err);
    if (r == 0)
        r = open_files_add_fd(files, trace->fd, &use, err);
    if (r < 0)
        err_prefix(err, "boot trace");
    return r;
}

int boot_trace_close(struct boot_trace *trace, struct err *err)
{
    int r;

    if (trace->fd < 0)
        return 0;
    r = trace_write(trace->fd);
    if (close(trace->fd) < 0 && r == 0)
        r = -errno;
    trace->fd = -1;
    return r < 0 ? err_set_errno(err, r, "boot trace: %s: cannot write", trace->path) : 0;
}
