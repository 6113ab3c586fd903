/*
 * Compression of clusters: the two formats that qcow2 knows.
 */
#include "block/qcow2_zip.h"

#include <errno.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* QEMU writes a window of 2^12; the format allows up to 2^15. Negative: raw deflate, no header. */
#define INFLATE_WINDOW_BITS (-15)
#define DEFLATE_WINDOW_BITS (-12)
#define DEFLATE_MEM_LEVEL 9

/* ---- zlib ------------------------------------------------------------------------------------------ */

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

    if (inflateInit2(&stream, INFLATE_WINDOW_BITS) != Z_OK)
        return -ENOMEM;
    r = inflate(&stream, Z_FINISH);
    (void)inflateEnd(&stream); /* cannot fail after inflateInit2 */
    if (stream.avail_out > 0 || (r != Z_STREAM_END && r != Z_BUF_ERROR))
        return -EIO;
    return 0;
}

static int deflate_zlib(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len,
                        size_t *ret_len)
{
    z_stream stream = {
        .next_in = (Bytef *)(uintptr_t)src,
        .avail_in = (uInt)src_len,
        .next_out = dst,
        .avail_out = (uInt)dst_len,
    };
    int r;

    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW_BITS,
                     DEFLATE_MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    r = deflate(&stream, Z_FINISH);
    *ret_len = dst_len - stream.avail_out;
    (void)deflateEnd(&stream); /* complains of output that nobody fetched, which is no error here */
    return r == Z_STREAM_END ? 0 : -ENOSPC;
}

/* ---- zstd ------------------------------------------------------------------------------------------ */

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

static int deflate_zstd(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len,
                        size_t *ret_len)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    size_t n;

    if (!context)
        return -ENOMEM;
    n = ZSTD_compress2(context, dst, dst_len, src, src_len);
    ZSTD_freeCCtx(context);
    if (ZSTD_isError(n))
        return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -ENOSPC;
    *ret_len = n;
    return 0;
}

/* ---- either ---------------------------------------------------------------------------------------- */

int qcow2_inflate(enum qcow2_compression how, const uint8_t *src, size_t src_len, uint8_t *dst,
                  size_t dst_len)
{
    return how == QCOW2_ZSTD ? inflate_zstd(src, src_len, dst, dst_len)
                             : inflate_zlib(src, src_len, dst, dst_len);
}

int qcow2_deflate(enum qcow2_compression how, const uint8_t *src, size_t src_len, uint8_t *dst,
                  size_t dst_len, size_t *ret_len)
{
    return how == QCOW2_ZSTD ? deflate_zstd(src, src_len, dst, dst_len, ret_len)
                             : deflate_zlib(src, src_len, dst, dst_len, ret_len);
}
