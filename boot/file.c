/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/host_path.h"

int boot_file_open(const char *path, struct boot_file *ret_file, struct err *err)
{
    struct stat st;
    char *copy;
    int fd;
    int r = host_path_open_regular(path, &fd, &st, err);

    if (r < 0)
        return r;
    if (st.st_size == 0) {
        r = err_set(err, -EINVAL, "%s: the file is empty", path);
        goto close_fd;
    }
    copy = strdup(path);
    if (!copy) {
        r = err_set(err, -ENOMEM, "%s: out of memory", path);
        goto close_fd;
    }
    *ret_file = (struct boot_file){.path = copy, .fd = fd, .size = (uint64_t)st.st_size};
    return 0;

close_fd:
    close(fd);
    return r;
}

void boot_file_close(struct boot_file *file)
{
    close(file->fd);
    free(file->path);
}

int boot_file_read(const struct boot_file *file, uint64_t off, void *buf, size_t len,
                   struct err *err)
{
    uint8_t *to = buf;

    while (len > 0) {
        ssize_t n = pread(file->fd, to, len, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(err, -errno, "cannot read");
        if (n == 0)
            return err_set(err, -EIO, "the file was %llu bytes when opened and ends at %llu now",
                           (unsigned long long)file->size, (unsigned long long)off);
        to += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}
