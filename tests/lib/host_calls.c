/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/host_calls.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

struct host_call host_calls[HOST_CALLS];
uint64_t host_slept_ns;

void host_calls_reset(void)
{
    memset(host_calls, 0, sizeof(host_calls));
    host_slept_ns = 0;
}

/* Count a call. Does it fail? */
static bool fails(enum host_call_kind kind)
{
    struct host_call *call = &host_calls[kind];

    (void)__atomic_fetch_add(&call->count, 1, __ATOMIC_RELAXED); /* several threads call */
    if (call->fail == 0)
        return false;
    if (call->fail != UINT_MAX)
        call->fail--;
    errno = call->error;
    return true;
}

static bool sync_fails(enum host_call_kind kind, int fd)
{
    if (host_calls[kind].hook)
        host_calls[kind].hook(fd);
    return fails(kind);
}

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __real_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
                                            unsigned n, struct __kernel_timespec *timeout,
                                            sigset_t *mask);
int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
                                            unsigned n, struct __kernel_timespec *timeout,
                                            sigset_t *mask);
int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __real_nanosleep(const struct timespec *time, struct timespec *left);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_syncfs(int fd);
int __wrap_syncfs(int fd);
int __real_malloc_trim(size_t pad);
int __wrap_malloc_trim(size_t pad);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
void *__real_mremap(void *addr, size_t len, size_t new_len, int flags, ...);
void *__wrap_mremap(void *addr, size_t len, size_t new_len, int flags, ...);
ssize_t __real_getrandom(void *buf, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags);
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_io_uring_submit(struct io_uring *ring)
{
    return fails(HOST_SUBMIT) ? -errno : __real_io_uring_submit(ring);
}

int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
                                            unsigned n, struct __kernel_timespec *timeout,
                                            sigset_t *mask)
{
    /* Waiting alone needs no memory of the kernel. */
    if (io_uring_sq_ready(ring) > 0 && fails(HOST_SUBMIT))
        return -errno;
    host_calls[HOST_WAIT].count++;
    return __real_io_uring_submit_and_wait_timeout(ring, cqe, n, timeout, mask);
}

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    return fails(HOST_RING) ? -errno : __real_io_uring_queue_init(entries, ring, flags);
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
    host_slept_ns += (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
    return fails(HOST_NANOSLEEP) ? 0 : __real_nanosleep(time, left);
}

int __wrap_fsync(int fd)
{
    return sync_fails(HOST_FSYNC, fd) ? -1 : __real_fsync(fd);
}

int __wrap_syncfs(int fd)
{
    return sync_fails(HOST_SYNCFS, fd) ? -1 : __real_syncfs(fd);
}

int __wrap_malloc_trim(size_t pad)
{
    (void)fails(HOST_TRIM);
#ifdef __GLIBC__
    return __real_malloc_trim(pad);
#else
    return 0;
#endif
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
    return fails(HOST_MMAP) ? MAP_FAILED : __real_mmap(addr, len, prot, flags, fd, off);
}

/* All callers name a place. */
void *__wrap_mremap(void *addr, size_t len, size_t new_len, int flags, ...)
{
    va_list args;
    void *place;

    va_start(args, flags);
    place = va_arg(args, void *);
    va_end(args);
    return fails(HOST_MREMAP) ? MAP_FAILED : __real_mremap(addr, len, new_len, flags, place);
}

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags)
{
    return fails(HOST_RANDOM) ? -1 : __real_getrandom(buf, len, flags);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    void *arg;
    int r;

    va_start(args, request);
    arg = va_arg(args, void *);
    va_end(args);
    r = __real_ioctl(fd, request, arg);
    if (r == 0 && request == SIOCOUTQ && fails(HOST_OUTQ))
        ++*(int *)arg;
    return r;
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
