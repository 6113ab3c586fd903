/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files under disk images, and the seam through which tests watch and break them.
 *
 * A struct file_ops carries out single operations: it may finish them later, in any order, only in
 * part, or not at all. The functions on top of it (file_read, file_write, …) make that whole: they
 * continue short transfers, repeat interrupted ones, read zeroes past the end of the file, and
 * bounce what direct I/O does not take. What the host has no resources for at the moment (EAGAIN)
 * is tried again for ten seconds, with pauses. Inside a coroutine they suspend it until the
 * operation is done; outside of one they block the thread, which is what set-up wants.
 *
 * A file has one owner thread at a time, like the image above it.
 */
#ifndef MINIVMM_BASE_FILE_H
#define MINIVMM_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/co.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/file_part.h"
#include "base/list.h"
#include "base/range_lock.h"

struct aio;

enum file_op {
    FILE_READ,
    FILE_WRITE,
    FILE_SYNC,    /* what was done before is durable afterwards */
    FILE_ZERO,    /* the range reads as zero; the file does not grow */
    FILE_PUNCH,   /* the same, and its space goes back to the host */
    FILE_RESERVE, /* the host finds space for the range, which reads as before */
    FILE_COPY,    /* the range gets what another file has, which the host does by itself */
};

/* One operation in flight; untouched by its owner until `done` was called. */
struct file_io {
    enum file_op op;
    uint64_t off;
    uint64_t len;            /* READ and WRITE: the sum of iov */
    const struct iovec *iov; /* at most FILE_IOV_MAX elements */
    unsigned niov;
    struct file *from; /* COPY: the other file, which is not written meanwhile */
    uint64_t from_off;

    /*
     * Called once, on the file's thread, possibly from inside `submit`. Bytes transferred (READ,
     * WRITE, COPY), 0, or -errno; fewer bytes than asked for are allowed, 0 of a READ or a COPY is
     * the end of what is read.
     */
    void (*done)(struct file_io *io, int result);

    /* owner: whoever carries the operation out */
    struct list link;
    int fd;
    int from_fd;
    bool direct;    /* past the page cache: it waits for the disk */
    bool long_copy; /* from the page cache: worth a thread of its own */
    int result;
    bool sleeps; /* it may: a write into the page cache */
};

#define FILE_IOV_MAX 1024u

/* Longest single transfer: keeps results in an int, and alignment with any block size. */
#define FILE_IO_MAX (1u << 30)

/* Zeroes to write from: never written, so it costs address space only. */
#define FILE_ZEROES_LEN (64u << 10)
extern const uint8_t file_zeroes[FILE_ZEROES_LEN];

struct file;

struct file_ops {
    void (*submit)(struct file *file, struct file_io *io);

    /* Immediate calls: cheap enough for the file's thread, or used in set-up only. */
    int (*get_len)(struct file *file, uint64_t *ret_len);
    int (*truncate)(struct file *file, uint64_t len);
    int (*get_space)(struct file *file, uint64_t *ret_bytes); /* of the host; may be NULL */

    /*
     * What is at `off`, as far as can be told without reading: a hole or data, and where that ends,
     * which is past `off`; UINT64_MAX: never. NULL: nothing is known.
     */
    int (*get_extent)(struct file *file, uint64_t off, bool *ret_hole, uint64_t *ret_end);

    /*
     * Keep other users out; NULL: nothing to do. -EAGAIN with *err filled if the file is in use by
     * a writer, or if it is to be written and is in use at all.
     */
    int (*lock)(struct file *file, const char *path, struct err *err);

    /* The lock becomes that of a reader; NULL: nothing to do. */
    void (*share)(struct file *file);

    /*
     * The opposite, of a file that may be open for reading only: `writable` is set already. NULL:
     * nothing to do. 0, or a negative errno with *err filled: then it is a reader's still.
     */
    int (*own)(struct file *file, const char *path, struct err *err);

    void (*free)(struct file *file);
};

/* Embedded in the implementation's struct, which sets these fields and calls file_init. */
struct file {
    const struct file_ops *ops;
    uint64_t id[2]; /* equal for two opens of the same file: device and inode */
    bool writable;
    bool locked;           /* nobody else has written to it since it was opened */
    bool fixed_len;        /* a device: it does not grow when it is written past its end */
    bool no_sync;          /* FILE_SYNC succeeds without being carried out: cache=unsafe */
    uint32_t align;        /* of offsets and lengths, a power of two; 1: anything goes */
    uint32_t mem_align;    /* of buffers */
    char *home;            /* its folder, without symbolic links; NULL: a device, or not known */
    uint64_t len_limit;    /* cut what aligned writes add past this length; UINT64_MAX: leave it */
    struct file_part part; /* what is seen of it */

    struct aio *aio; /* finishes operations; NULL: they are carried out at once */

    struct range_lock writes; /* keeps read-modify-write apart from other writes */

    struct co_mutex syncing; /* held while the host syncs */
    uint64_t syncs_asked;    /* calls of file_sync so far */
    uint64_t syncs_covered;  /* those of them that came before the last sync of the host began */
    int sync_error;          /* the first failure to sync, for ever */
};

void file_init(struct file *file, const struct file_ops *ops);

/*
 * Show a part only, before anything else is done with the file; it has to lie inside. 0, or -errno
 * with *err filled.
 */
int file_set_part(struct file *file, const struct file_part *part, const char *path,
                  struct err *err) MUST_CHECK;

/* Do both show the same of the same file? */
bool file_is_same(const struct file *a, const struct file *b);

/* Aligned writes do not make what is seen longer than that. */
void file_limit_len(struct file *file, uint64_t len);

/* NULL is fine. */
void file_free(struct file *file);

/* All of [off, off + len) or -errno; past the end of the file or the part there are zeroes. */
int file_readv(struct file *file, uint64_t off, const struct iovec *iov, unsigned niov) MUST_CHECK;
int file_read(struct file *file, uint64_t off, void *buf, size_t len) MUST_CHECK;

int file_writev(struct file *file, uint64_t off, const struct iovec *iov, unsigned niov) MUST_CHECK;
int file_write(struct file *file, uint64_t off, const void *buf, size_t len) MUST_CHECK;

/*
 * Make durable what was finished before the call: operations whose result was there. Of those that
 * are still in flight any may be durable or not.
 *
 * The kernel reports a write-back error once for each open file, and drops the pages: of two syncs
 * in flight one would fail, and the other would tell its caller that all is well. So the host has
 * one at a time. Whoever calls meanwhile waits for the next, which begins after all of them called.
 * After one failure all calls fail, those that wait as well as later ones.
 */
int file_sync(struct file *file) MUST_CHECK;

/*
 * Zero a range without writing a buffer; with `unmap`, give its space back.
 * -EOPNOTSUPP where the file system cannot.
 */
int file_zero_fast(struct file *file, uint64_t off, uint64_t len, bool unmap) MUST_CHECK;

/*
 * Have the host find space for a range inside the file, so that writing there only has to transfer
 * data; what it reads as stays. -EOPNOTSUPP where the file system cannot.
 */
int file_reserve(struct file *file, uint64_t off, uint64_t len) MUST_CHECK;

/* Zero a range, by writing zeroes where there is no faster way. */
int file_zero(struct file *file, uint64_t off, uint64_t len, bool unmap) MUST_CHECK;

/* Zero a range by writing zeroes, so that the host has space for all of it. */
int file_write_zeroes(struct file *file, uint64_t off, uint64_t len) MUST_CHECK;

/*
 * Let the host copy [from_off, + len) of another file to `off`, without the data passing through
 * this process; file systems that can do that let the files share the space. -EOPNOTSUPP where the
 * host cannot, with these files or this range; a part may have been copied then, as with any
 * failure.
 */
int file_copy(struct file *file, uint64_t off, uint64_t len, struct file *from,
              uint64_t from_off) MUST_CHECK;

int file_get_len(struct file *file, uint64_t *ret_len) MUST_CHECK;

/* How much space of the host it takes; -EOPNOTSUPP where that is not known. */
int file_get_space(struct file *file, uint64_t *ret_bytes) MUST_CHECK;

/* -ENOTSUP: the length cannot be changed. */
int file_truncate(struct file *file, uint64_t len) MUST_CHECK;

/*
 * Is there a hole at `off`, and up to where (past `off`; UINT64_MAX: for ever)? What cannot be told
 * is data. Past the end of the file there is a hole.
 */
bool file_hole_at(struct file *file, uint64_t off, uint64_t *ret_end);

int file_lock(struct file *file, const char *path, struct err *err) MUST_CHECK;

/* From now on the file is only read: others may read it, too. */
void file_end_writing(struct file *file);

/* From now on the file is written, as one that was opened for it. No operation is in flight. */
int file_begin_writing(struct file *file, const char *path, struct err *err) MUST_CHECK;

/* Finish operations through `aio` from now on, or at once (NULL). None is in flight. */
void file_set_aio(struct file *file, struct aio *aio);

#endif
