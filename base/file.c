/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/aio.h"
#include "base/bytes.h"
#include "base/iov.h"

/* Bounce buffers are bounded: larger requests go through in pieces. */
#define BOUNCE_MAX (1u << 20)

/*
 * What the host answers with EAGAIN (no resources at the moment) is tried again after pauses, each
 * twice as long as the one before, up to the longest. When they add up to this, EAGAIN becomes the
 * request's result.
 */
#define PAUSE_MAX_MS 100u
#define PAUSES_MS 10000u

/* An operation that was interrupted is repeated at once, but not for ever. */
#define INTERRUPTS_MAX 16u

const uint8_t file_zeroes[FILE_ZEROES_LEN] __attribute__((aligned(4096)));

void file_init(struct file *file, const struct file_ops *ops)
{
    file->ops = ops;
    file->no_sync = false;
    file->align = 1;
    file->mem_align = 1;
    file->len_limit = UINT64_MAX;
    file->part = FILE_PART_ALL;
    file->aio = NULL;
    range_lock_init(&file->writes);
    co_mutex_init(&file->syncing);
    file->syncs_asked = 0;
    file->syncs_covered = 0;
    file->sync_error = 0;
}

bool file_is_same(const struct file *a, const struct file *b)
{
    return memcmp(a->id, b->id, sizeof(a->id)) == 0 && a->part.off == b->part.off;
}

int file_set_part(struct file *file, const struct file_part *part, const char *path,
                  struct err *err)
{
    bool has_len = part->len != FILE_PART_REST;
    uint64_t file_len;
    uint64_t len;
    int r;

    if (part->off == 0 && !has_len)
        return 0;
    r = file->ops->get_len(file, &file_len);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot tell the size", path);
    len = file_part_room(file_len);
    if (part->off > len)
        return err_set(err, -EINVAL,
                       "%s: Offset (%" PRIu64 ") cannot be greater than size of the containing "
                       "file (%" PRIu64 ")",
                       path, part->off, len);
    if (has_len && part->len > len - part->off)
        return err_set(err, -EINVAL,
                       "%s: The sum of offset (%" PRIu64 ") and size (%" PRIu64
                       ") has to be smaller or equal to the  actual size of the containing file "
                       "(%" PRIu64 ")",
                       path, part->off, part->len, len);
    file->part = *part;
    if (has_len) {
        file->fixed_len = true;
        file->len_limit = max_u64(file_len, part->off + part->len); /* what follows stays */
    }
    return 0;
}

void file_limit_len(struct file *file, uint64_t len)
{
    if (file->part.len == FILE_PART_REST)
        file->len_limit = file->part.off + len;
}

void file_free(struct file *file)
{
    if (file)
        file->ops->free(file);
}

/* ---- one operation, waited for --------------------------------------------------------------- */

/* A struct file_io on its owner's stack, and the coroutine that waits for it. */
struct waited_io {
    struct file_io io;
    struct co *co;
    bool finished;
    int result;
};

static void waited_done(struct file_io *io, int result)
{
    struct waited_io *waited = container_of(io, struct waited_io, io);

    waited->result = result;
    waited->finished = true;
    if (waited->co)
        co_wake(waited->co);
}

static int submit_and_wait(struct file *file, struct waited_io *waited)
{
    waited->io.done = waited_done;
    waited->finished = false;
    waited->co = NULL;
    file->ops->submit(file, &waited->io);
    if (!waited->finished) {
        waited->co = co_self();
        assert(waited->co); /* outside coroutines files are not attached, and finish at once */
        co_suspend();
    }
    return waited->result;
}

struct patience {
    unsigned interrupts;
    unsigned pause_ms; /* the last one */
    unsigned paused_ms;
    bool to_the_end; /* even if nobody wants the result any more */
};

/* Is an operation that ended with `r` to be tried again? If so, this waits until it is time. */
static bool try_again(struct file *file, struct patience *patience, int r)
{
    if (r == -EINTR && patience->interrupts++ < INTERRUPTS_MAX)
        return true;
    if ((r != -EAGAIN && r != -EINTR) || patience->paused_ms >= PAUSES_MS)
        return false;
    patience->pause_ms = (unsigned)min_u64(max_u64(patience->pause_ms * 2ull, 1), PAUSE_MAX_MS);
    patience->paused_ms += patience->pause_ms;
    aio_sleep(file->aio, patience->pause_ms);
    return patience->to_the_end || co_turn(0) == 0;
}

static int run_io(struct file *file, struct waited_io *waited)
{
    /*
     * A failed sync fails all later ones, and others may wait for this one: so it is not given up
     * because one request was cancelled.
     */
    struct patience patience = {.to_the_end = waited->io.op == FILE_SYNC};
    int r;

    do {
        r = submit_and_wait(file, waited);
    } while (try_again(file, &patience, r));
    return r;
}

/* ---- transfers ------------------------------------------------------------------------------- */

/*
 * The part of `iov` from byte `off` on, in at most FILE_IOV_MAX elements and FILE_IO_MAX bytes.
 * Returns the number of elements.
 */
static unsigned iov_window(const struct iovec *iov, unsigned niov, size_t off, struct iovec *dst,
                           size_t *ret_len)
{
    unsigned n = 0;
    size_t len = 0;

    for (unsigned i = 0; i < niov && n < FILE_IOV_MAX && len < FILE_IO_MAX; i++) {
        size_t take;

        if (off >= iov[i].iov_len) {
            off -= iov[i].iov_len;
            continue;
        }
        take = (size_t)min_u64(iov[i].iov_len - off, FILE_IO_MAX - len);
        dst[n].iov_base = (char *)iov[i].iov_base + off;
        dst[n++].iov_len = take;
        len += take;
        off = 0;
    }
    *ret_len = len;
    return n;
}

/* Transfer all of `iov`, however many operations that takes. */
static int transfer(struct file *file, enum file_op op, uint64_t off, const struct iovec *iov,
                    unsigned niov, size_t len)
{
    struct waited_io waited = {.io = {.op = op}};
    struct iovec *window = NULL;
    size_t done = 0;
    int r = 0;

    while (done < len) {
        struct file_io *io = &waited.io;

        io->off = off + done;
        if (done == 0 && niov <= FILE_IOV_MAX && len <= FILE_IO_MAX) {
            io->iov = iov;
            io->niov = niov;
            io->len = len;
        } else {
            size_t window_len;

            if (!window)
                window = malloc(FILE_IOV_MAX * sizeof(*window));
            if (!window)
                return -ENOMEM;
            io->iov = window;
            io->niov = iov_window(iov, niov, done, window, &window_len);
            io->len = window_len;
        }
        r = run_io(file, &waited);
        if (r <= 0)
            break;
        done += (size_t)r;
        /* Direct I/O ends inside a block only at the end of the file, and cannot go on there. */
        if (!is_aligned((uint64_t)r, file->align)) {
            r = 0;
            break;
        }
    }
    free(window);

    if (r == 0 && done < len) {
        if (op == FILE_WRITE)
            return -EIO; /* a write that makes no progress would never end */
        iov_memset(iov, niov, done, 0, len - done);
    }
    return r < 0 ? r : 0;
}

static bool iov_is_aligned(const struct file *file, const struct iovec *iov, unsigned niov)
{
    for (unsigned i = 0; i < niov; i++)
        if (!is_aligned((uintptr_t)iov[i].iov_base, file->mem_align) ||
            !is_aligned(iov[i].iov_len, file->align))
            return false;
    return true;
}

/* The length of the file, whatever part is seen of it. */
static int truncate_to(struct file *file, uint64_t len)
{
    struct patience patience = {0};
    int r;

    do {
        r = file->ops->truncate(file, len);
    } while (try_again(file, &patience, r));
    return r;
}

/* ---- bounced transfers ----------------------------------------------------------------------- */

/*
 * A piece of a request and the aligned buffer that stands in for its memory:
 *
 *     start        off              off + len      end
 *       |<- read -->|<-- the request -->|<- read -->|     start, end: multiples of file->align
 */
struct bounce {
    uint64_t off;
    uint64_t len;
    uint64_t start;
    uint64_t end;
    uint8_t *buf;
};

static int bounce_transfer(struct file *file, const struct bounce *bounce, enum file_op op,
                           uint64_t off, uint64_t len)
{
    struct iovec iov = {bounce->buf + (off - bounce->start), len};

    return transfer(file, op, off, &iov, 1, len);
}

/* Fetch the bytes beside the request that share its first and last block. */
static int bounce_read_edges(struct file *file, const struct bounce *bounce)
{
    uint64_t last = bounce->end - file->align;
    int r;

    if (bounce->off != bounce->start) {
        r = bounce_transfer(file, bounce, FILE_READ, bounce->start, file->align);
        if (r < 0 || last == bounce->start)
            return r;
    }
    if (bounce->off + bounce->len == bounce->end)
        return 0;
    return bounce_transfer(file, bounce, FILE_READ, last, file->align);
}

static int bounce_piece(struct file *file, const struct bounce *bounce, enum file_op op,
                        const struct iovec *iov, unsigned niov, size_t iov_off)
{
    uint8_t *data = bounce->buf + (bounce->off - bounce->start);
    int r;

    if (op == FILE_READ) {
        r = bounce_transfer(file, bounce, FILE_READ, bounce->start, bounce->end - bounce->start);
        if (r == 0)
            iov_from_buf(iov, niov, iov_off, data, bounce->len);
        return r;
    }
    r = bounce_read_edges(file, bounce);
    if (r < 0)
        return r;
    iov_to_buf(iov, niov, iov_off, data, bounce->len);
    return bounce_transfer(file, bounce, FILE_WRITE, bounce->start, bounce->end - bounce->start);
}

static int bounce_all(struct file *file, enum file_op op, uint64_t off, const struct iovec *iov,
                      unsigned niov, size_t len)
{
    uint64_t end = off + len;
    size_t buf_len = (size_t)min_u64(align_up(end, file->align) - align_down(off, file->align),
                                     max_u64(BOUNCE_MAX, file->align));
    struct bounce bounce = {.off = off};
    int r = 0;

    bounce.buf = aligned_alloc(max_u64(file->mem_align, file->align), buf_len);
    if (!bounce.buf)
        return -ENOMEM;
    while (r == 0 && bounce.off < end) {
        bounce.start = align_down(bounce.off, file->align);
        bounce.len = min_u64(end, bounce.start + buf_len) - bounce.off;
        bounce.end = align_up(bounce.off + bounce.len, file->align);
        r = bounce_piece(file, &bounce, op, iov, niov, (size_t)(bounce.off - off));
        bounce.off += bounce.len;
    }
    free(bounce.buf);

    /* Padding written past the end of a raw image would change the size that its guest sees. */
    if (r == 0 && op == FILE_WRITE && align_up(end, file->align) > file->len_limit)
        r = truncate_to(file, file->len_limit);
    return r;
}

/* ---- requests -------------------------------------------------------------------------------- */

static int read_end_of_part(struct file *file, uint64_t off, const struct iovec *iov, unsigned niov)
{
    size_t len = iov_len(iov, niov);
    size_t inside = (size_t)file_part_clip(&file->part, off, len);
    struct iovec *first = malloc(niov * sizeof(*first));
    int r = first ? iov_slice(iov, niov, 0, inside, first, niov) : -ENOMEM;

    if (r > 0)
        r = file_readv(file, off, first, (unsigned)r);
    free(first);
    if (r == 0)
        iov_memset(iov, niov, inside, 0, len - inside);
    return r;
}

int file_readv(struct file *file, uint64_t off, const struct iovec *iov, unsigned niov)
{
    size_t len = iov_len(iov, niov);

    if (file_part_clip(&file->part, off, len) < len)
        return read_end_of_part(file, off, iov, niov);
    if (file_part_find(&file->part, &off, len) < 0)
        return -EINVAL;
    if (file->align == 1 || (is_aligned(off, file->align) && iov_is_aligned(file, iov, niov)))
        return transfer(file, FILE_READ, off, iov, niov, len);
    return bounce_all(file, FILE_READ, off, iov, niov, len);
}

int file_writev(struct file *file, uint64_t off, const struct iovec *iov, unsigned niov)
{
    size_t len = iov_len(iov, niov);
    struct range range;
    bool whole_blocks;
    bool direct;
    int r;

    if (!file->writable)
        return -EROFS;
    r = file_part_find(&file->part, &off, len);
    if (r < 0)
        return r;
    if (file->align == 1 || len == 0)
        return transfer(file, FILE_WRITE, off, iov, niov, len);

    /*
     * A read-modify-write of a block must not put back what another write has just replaced there,
     * so it keeps all other writes away from its blocks.
     */
    whole_blocks = is_aligned(off | len, file->align);
    direct = is_aligned(off, file->align) && iov_is_aligned(file, iov, niov);
    range_acquire(&file->writes, &range, align_down(off, file->align),
                  align_up(off + len, file->align) - align_down(off, file->align), !whole_blocks);
    if (direct)
        r = transfer(file, FILE_WRITE, off, iov, niov, len);
    else
        r = bounce_all(file, FILE_WRITE, off, iov, niov, len);
    range_release(&file->writes, &range);
    return r;
}

int file_read(struct file *file, uint64_t off, void *buf, size_t len)
{
    struct iovec iov = {buf, len};

    return file_readv(file, off, &iov, 1);
}

int file_write(struct file *file, uint64_t off, const void *buf, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};

    return file_writev(file, off, &iov, 1);
}

/* With file->syncing held. */
static void sync_locked(struct file *file)
{
    struct waited_io waited = {.io = {.op = FILE_SYNC}};
    uint64_t covered = file->syncs_asked;
    int r = run_io(file, &waited);

    if (r < 0)
        file->sync_error = r;
    file->syncs_covered = covered;
}

int file_sync(struct file *file)
{
    uint64_t mine = ++file->syncs_asked;
    int r;

    if (file->no_sync)
        return 0;
    co_mutex_lock(&file->syncing);
    if (file->sync_error == 0 && file->syncs_covered < mine)
        sync_locked(file);
    r = file->sync_error;
    co_mutex_unlock(&file->syncing);
    return r;
}

/* An operation of fallocate. */
static int change_space(struct file *file, enum file_op op, uint64_t off, uint64_t len)
{
    struct waited_io waited = {.io = {.op = op}};
    struct range range;
    int r;

    if (!file->writable)
        return -EROFS;
    len = op == FILE_RESERVE ? len : file_part_clip(&file->part, off, len);
    if (len == 0)
        return 0;
    r = file_part_find(&file->part, &off, len);
    if (r < 0)
        return r;
    waited.io.off = off;
    waited.io.len = len;
    range_acquire(&file->writes, &range, off, len, false);
    r = run_io(file, &waited);
    range_release(&file->writes, &range);

    /*
     * What file systems and block devices answer that cannot do this at all, or not with this
     * range.
     */
    if (r == -ENOSYS || r == -EINVAL || r == -ENODEV || r == -ENOTTY)
        return -EOPNOTSUPP;
    return r < 0 ? r : 0;
}

int file_zero_fast(struct file *file, uint64_t off, uint64_t len, bool unmap)
{
    return change_space(file, unmap ? FILE_PUNCH : FILE_ZERO, off, len);
}

int file_reserve(struct file *file, uint64_t off, uint64_t len)
{
    return change_space(file, FILE_RESERVE, off, len);
}

int file_write_zeroes(struct file *file, uint64_t off, uint64_t len)
{
    struct iovec iov[16];

    while (len > 0) {
        unsigned niov = 0;
        uint64_t piece = 0;
        int r = co_turn(sizeof(file_zeroes) * ARRAY_SIZE(iov));

        if (r < 0)
            return r;
        for (; niov < ARRAY_SIZE(iov) && piece < len; niov++) {
            iov[niov].iov_base = (void *)(uintptr_t)file_zeroes;
            iov[niov].iov_len = (size_t)min_u64(len - piece, FILE_ZEROES_LEN);
            piece += iov[niov].iov_len;
        }
        r = file_writev(file, off, iov, niov);
        if (r < 0)
            return r;
        off += piece;
        len -= piece;
    }
    return 0;
}

int file_zero(struct file *file, uint64_t off, uint64_t len, bool unmap)
{
    int r = file_zero_fast(file, off, len, unmap);

    if (r == -EOPNOTSUPP && unmap)
        r = file_zero_fast(file, off, len, false);
    return r == -EOPNOTSUPP ? file_write_zeroes(file, off, len) : r;
}

static int copy_all(struct file *file, uint64_t off, uint64_t len, struct file *from,
                    uint64_t from_off)
{
    struct waited_io waited = {.io = {.op = FILE_COPY, .from = from}};
    uint64_t done = 0;
    int r = 0;

    while (done < len) {
        waited.io.off = off + done;
        waited.io.from_off = from_off + done;
        waited.io.len = min_u64(len - done, FILE_IO_MAX);
        r = run_io(file, &waited);
        if (r <= 0)
            break;
        done += (uint64_t)r;
    }
    if (r < 0)
        return r;
    return done == len ? 0 : -EOPNOTSUPP; /* the other file ends here */
}

/*
 * What kernels and file systems answer that cannot do it at all, or not with these files or this
 * range.
 */
static bool is_refusal(int r)
{
    return r == -ENOSYS || r == -EINVAL || r == -EXDEV || r == -ENOTTY || r == -ETXTBSY ||
           r == -EBADF || r == -EPERM || r == -EOPNOTSUPP;
}

int file_copy(struct file *file, uint64_t off, uint64_t len, struct file *from, uint64_t from_off)
{
    struct range range;
    int r;

    if (!file->writable)
        return -EROFS;
    r = file_part_find(&file->part, &off, len);
    if (r < 0)
        return r;
    if (file_part_find(&from->part, &from_off, len) < 0 || !is_aligned(off | len, file->align) ||
        !is_aligned(from_off, from->align))
        return -EOPNOTSUPP; /* parts of blocks go through a buffer */
    range_acquire(&file->writes, &range, off, len, false);
    r = copy_all(file, off, len, from, from_off);
    range_release(&file->writes, &range);
    return is_refusal(r) ? -EOPNOTSUPP : r;
}

int file_get_len(struct file *file, uint64_t *ret_len)
{
    int r = file->ops->get_len(file, ret_len);

    if (r == 0)
        *ret_len = file_part_len(&file->part, *ret_len);
    return r;
}

int file_get_space(struct file *file, uint64_t *ret_bytes)
{
    return file->ops->get_space ? file->ops->get_space(file, ret_bytes) : -EOPNOTSUPP;
}

int file_truncate(struct file *file, uint64_t len)
{
    if (!file->writable)
        return -EROFS;
    if (file->part.len != FILE_PART_REST)
        return -ENOTSUP;
    return add_u64(file->part.off, len, &len) ? truncate_to(file, len) : -EFBIG;
}

bool file_hole_at(struct file *file, uint64_t off, uint64_t *ret_end)
{
    bool hole = false;

    *ret_end = UINT64_MAX;
    if (file_part_find(&file->part, &off, 1) < 0)
        return true;
    if (!file->ops->get_extent || file->ops->get_extent(file, off, &hole, ret_end) < 0)
        *ret_end = UINT64_MAX;
    *ret_end = file_part_extent_end(&file->part, *ret_end, hole);
    return hole;
}

int file_lock(struct file *file, const char *path, struct err *err)
{
    int r = file->ops->lock ? file->ops->lock(file, path, err) : 0;

    file->locked = r == 0;
    return r;
}

int file_begin_writing(struct file *file, const char *path, struct err *err)
{
    int r;

    if (!file->locked)
        return err_set(err, -EAGAIN,
                       "%s: the image is open without a lock, so others may have changed it", path);
    file->writable = true;
    r = file->ops->own ? file->ops->own(file, path, err) : 0;
    if (r < 0)
        file->writable = false;
    return r;
}

void file_end_writing(struct file *file)
{
    file->writable = false;
    if (file->ops->share)
        file->ops->share(file);
}

void file_set_aio(struct file *file, struct aio *aio)
{
    file->aio = aio;
}
