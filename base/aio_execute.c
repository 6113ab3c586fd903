/* SPDX-License-Identifier: Apache-2.0 */
#include "base/aio_execute.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

int aio_execute(const struct file_io *io)
{
    off_t off = (off_t)io->off;
    off_t from_off = (off_t)io->from_off;
    ssize_t r = -1;

    switch (io->op) {
    case FILE_READ:
        r = preadv(io->fd, io->iov, (int)io->niov, off);
        break;
    case FILE_WRITE:
        r = pwritev(io->fd, io->iov, (int)io->niov, off);
        break;
    case FILE_SYNC:
        r = fdatasync(io->fd);
        break;
    case FILE_ZERO:
        r = fallocate(io->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, (off_t)io->len);
        break;
    case FILE_PUNCH:
        r = fallocate(io->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, (off_t)io->len);
        break;
    case FILE_RESERVE:
        r = fallocate(io->fd, FALLOC_FL_KEEP_SIZE, off, (off_t)io->len);
        break;
    case FILE_COPY:
        r = copy_file_range(io->from_fd, &from_off, io->fd, &off, io->len, 0);
        break;
    }
    return r < 0 ? -errno : (int)r;
}
