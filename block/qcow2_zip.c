/*
 * Compressed clusters.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "block/qcow2.h"
#include "vmm/base/bytes.h"
#include "vmm/base/iov.h"

/* QEMU writes a window of 2^12; the format allows up to 2^15. Negative: raw deflate, no header. */
#define DEFLATE_WINDOW_BITS (-15)

/*
 * The entry counts whole sectors of compressed data, so there may be bytes behind the stream's end:
 * what counts is that a whole cluster came out.
 */
static int inflate_zlib(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len)
{
    z_stream stream = {
        .next_in = (Bytef *)(uintptr_t)src,
        .avail_in = (uInt)src_len,
        .next_out = dst,
        .avail_out = (uInt)dst_len,
    };
    int r;

    if (inflateInit2(&stream, DEFLATE_WINDOW_BITS) != Z_OK)
        return -ENOMEM;
    r = inflate(&stream, Z_FINISH);
    (void)inflateEnd(&stream); /* cannot fail after inflateInit2 */
    if (stream.avail_out > 0 || (r != Z_STREAM_END && r != Z_BUF_ERROR))
        return -EIO;
    return 0;
}

static int inflate_zstd(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len)
{
    ZSTD_inBuffer in = {src, src_len, 0};
    ZSTD_outBuffer out = {dst, dst_len, 0};
    ZSTD_DCtx *context = ZSTD_createDCtx();
    int r = 0;

    if (!context)
        return -ENOMEM;
    while (out.pos < dst_len && r == 0) {
        size_t before_in = in.pos;
        size_t before_out = out.pos;
        size_t hint = ZSTD_decompressStream(context, &out, &in);

        /* No progress: the data ends before the cluster does. */
        if (ZSTD_isError(hint) || (in.pos == before_in && out.pos == before_out))
            r = -EIO;
    }
    ZSTD_freeDCtx(context);
    return r;
}

/* Fill q->inflated from `entry`. */
static int inflate_entry(struct qcow2 *q, uint64_t entry)
{
    struct qcow2_inflated *inflated = &q->inflated;
    uint64_t host;
    uint64_t len;
    uint8_t *packed;
    int r;

    qcow2_packed_range(q, entry, &host, &len);
    inflated->entry = 0;
    if (!inflated->data)
        inflated->data = malloc(q->cluster_size);
    packed = malloc(len);
    if (!packed || !inflated->data) {
        free(packed);
        return -ENOMEM;
    }
    r = file_read(q->block.file, host, packed, len);
    if (r == 0) {
        if (q->compression == QCOW2_ZSTD)
            r = inflate_zstd(packed, len, inflated->data, q->cluster_size);
        else
            r = inflate_zlib(packed, len, inflated->data, q->cluster_size);
    }
    free(packed);
    if (r == 0)
        inflated->entry = entry;
    return r;
}

int qcow2_read_packed(struct qcow2 *q, uint64_t entry, uint64_t in_cluster, uint64_t len,
                      const struct iovec *iov, unsigned niov)
{
    int r = 0;

    co_mutex_lock(&q->inflated.lock);
    if (q->inflated.entry != entry)
        r = inflate_entry(q, entry);
    if (r == 0)
        iov_from_buf(iov, niov, 0, q->inflated.data + in_cluster, len);
    co_mutex_unlock(&q->inflated.lock);
    return r;
}

void qcow2_drop_inflated(struct qcow2 *q)
{
    q->inflated.entry = 0;
}

void qcow2_free_inflated(struct qcow2 *q)
{
    qcow2_drop_inflated(q);
    free(q->inflated.data);
    q->inflated.data = NULL;
}
