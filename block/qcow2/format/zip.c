/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What qcow2 calls "zlib" is raw deflate without a header. Where libdeflate is installed, it does
 * the work two to three times as fast as zlib.
 */
#include "block/qcow2/format/zip.h"

#include <errno.h>
#include <stdlib.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/*
 * We compress with QEMU's window of 2^12 bytes. QEMU inflates data of any window: it has the whole
 * cluster in one buffer, and zlib needs the window only for what has left the buffer. So libdeflate
 * may be used too, which always has the format's window of 2^15. Negative bits mean raw deflate.
 */
#define INFLATE_WINDOW_BITS (-15)
#define DEFLATE_WINDOW_BITS (-12)
#define DEFLATE_MEM_LEVEL 9

/*
 * At this level programs and texts become 5 to 10 % smaller than with zlib's default level, in a
 * third of the time. Level 6 would gain another 2 to 3 % and take half as long again.
 */
#define LIBDEFLATE_LEVEL 4

/* ---- inflating ------------------------------------------------------------------------------- */

/*
 * An L2 entry has the length of compressed data in sectors, so other bytes may follow the stream.
 * The data is good if a whole cluster comes out.
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

struct qcow2_inflater {
    ZSTD_DCtx *zstd; /* NULL if the inflater is for zlib */
#ifdef HAVE_LIBDEFLATE
    struct libdeflate_decompressor *deflate;
#endif
};

int qcow2_inflater_new(enum qcow2_compression how, struct qcow2_inflater **ret_inflater)
{
    struct qcow2_inflater *inflater = calloc(1, sizeof(*inflater));
    bool started = true;

    if (!inflater)
        return -ENOMEM;
    if (how == QCOW2_ZSTD) {
        inflater->zstd = ZSTD_createDCtx();
        started = inflater->zstd;
    } else {
#ifdef HAVE_LIBDEFLATE
        inflater->deflate = libdeflate_alloc_decompressor();
        started = inflater->deflate;
#endif
    }
    if (!started) {
        free(inflater);
        return -ENOMEM;
    }
    *ret_inflater = inflater;
    return 0;
}

void qcow2_inflater_free(struct qcow2_inflater *inflater)
{
    if (!inflater)
        return;
    ZSTD_freeDCtx(inflater->zstd);
#ifdef HAVE_LIBDEFLATE
    if (inflater->deflate)
        libdeflate_free_decompressor(inflater->deflate);
#endif
    free(inflater);
}

/* libdeflate refuses a stream that has no end; zlib is tried next and takes what fills `dst`. */
static int inflate_deflated(struct qcow2_inflater *inflater, const uint8_t *src, size_t src_len,
                            uint8_t *dst, size_t dst_len)
{
#ifdef HAVE_LIBDEFLATE
    size_t used;

    if (libdeflate_deflate_decompress_ex(inflater->deflate, src, src_len, dst, dst_len, &used,
                                         NULL) == LIBDEFLATE_SUCCESS)
        return 0;
#else
    (void)inflater;
#endif
    return inflate_zlib(src, src_len, dst, dst_len);
}

/* Inflate a frame that may be longer than the cluster, or lack its end. */
static int inflate_zstd_stream(ZSTD_DCtx *zstd, const uint8_t *src, size_t src_len, uint8_t *dst,
                               size_t dst_len)
{
    ZSTD_inBuffer in = {src, src_len, 0};
    ZSTD_outBuffer out = {dst, dst_len, 0};

    (void)ZSTD_DCtx_reset(zstd, ZSTD_reset_session_only); /* cannot fail for a session */
    while (out.pos < dst_len) {
        size_t before_in = in.pos;
        size_t before_out = out.pos;
        size_t hint = ZSTD_decompressStream(zstd, &out, &in);

        /* No progress: the data ends before the cluster does. */
        if (ZSTD_isError(hint) || (in.pos == before_in && out.pos == before_out))
            return -EIO;
    }
    return 0;
}

/* A frame of exactly one cluster is inflated in one call, without the buffers of a stream. */
static int inflate_zstd(ZSTD_DCtx *zstd, const uint8_t *src, size_t src_len, uint8_t *dst,
                        size_t dst_len)
{
    size_t frame = ZSTD_findFrameCompressedSize(src, src_len);

    if (!ZSTD_isError(frame) && ZSTD_decompressDCtx(zstd, dst, dst_len, src, frame) == dst_len)
        return 0;
    return inflate_zstd_stream(zstd, src, src_len, dst, dst_len);
}

int qcow2_inflate(struct qcow2_inflater *inflater, const uint8_t *src, size_t src_len, uint8_t *dst,
                  size_t dst_len)
{
    return inflater->zstd ? inflate_zstd(inflater->zstd, src, src_len, dst, dst_len)
                          : inflate_deflated(inflater, src, src_len, dst, dst_len);
}

/* A new one of zstd has about 160 KiB; the window of a frame can add 128 MiB. */
#define INFLATER_SMALL (512u << 10)

bool qcow2_inflater_is_small(const struct qcow2_inflater *inflater)
{
    return ZSTD_sizeof_DCtx(inflater->zstd) <= INFLATER_SMALL; /* of NULL: 0 */
}

/* ---- deflating ------------------------------------------------------------------------------- */

struct qcow2_deflater {
    ZSTD_CCtx *zstd; /* NULL if the deflater is for zlib */
#ifdef HAVE_LIBDEFLATE
    struct libdeflate_compressor *deflate;
#else
    z_stream zlib;
#endif
};

#ifdef HAVE_LIBDEFLATE
static bool deflate_start(struct qcow2_deflater *deflater)
{
    deflater->deflate = libdeflate_alloc_compressor(LIBDEFLATE_LEVEL);
    return deflater->deflate;
}

static void deflate_stop(struct qcow2_deflater *deflater)
{
    libdeflate_free_compressor(deflater->deflate);
}

static int deflate_cluster(struct qcow2_deflater *deflater, const uint8_t *src, size_t src_len,
                           uint8_t *dst, size_t dst_len, size_t *ret_len)
{
    size_t n = libdeflate_deflate_compress(deflater->deflate, src, src_len, dst, dst_len);

    if (n == 0)
        return -ENOSPC;
    *ret_len = n;
    return 0;
}
#else
static bool deflate_start(struct qcow2_deflater *deflater)
{
    return deflateInit2(&deflater->zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW_BITS,
                        DEFLATE_MEM_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
}

static void deflate_stop(struct qcow2_deflater *deflater)
{
    /* deflateEnd fails if output was not fetched, which is no error here. */
    (void)deflateEnd(&deflater->zlib);
}

static int deflate_cluster(struct qcow2_deflater *deflater, const uint8_t *src, size_t src_len,
                           uint8_t *dst, size_t dst_len, size_t *ret_len)
{
    z_stream *stream = &deflater->zlib;

    (void)deflateReset(stream); /* cannot fail after deflateInit2 */
    stream->next_in = (Bytef *)(uintptr_t)src;
    stream->avail_in = (uInt)src_len;
    stream->next_out = dst;
    stream->avail_out = (uInt)dst_len;
    if (deflate(stream, Z_FINISH) != Z_STREAM_END)
        return -ENOSPC;
    *ret_len = dst_len - stream->avail_out;
    return 0;
}
#endif

static int zstd_cluster(ZSTD_CCtx *zstd, const uint8_t *src, size_t src_len, uint8_t *dst,
                        size_t dst_len, size_t *ret_len)
{
    size_t n = ZSTD_compress2(zstd, dst, dst_len, src, src_len);

    if (ZSTD_isError(n))
        return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -ENOSPC;
    *ret_len = n;
    return 0;
}

int qcow2_deflater_new(enum qcow2_compression how, struct qcow2_deflater **ret_deflater)
{
    struct qcow2_deflater *deflater = calloc(1, sizeof(*deflater));
    bool started;

    if (!deflater)
        return -ENOMEM;
    if (how == QCOW2_ZSTD) {
        deflater->zstd = ZSTD_createCCtx();
        started = deflater->zstd;
    } else {
        started = deflate_start(deflater);
    }
    if (!started) {
        free(deflater);
        return -ENOMEM;
    }
    *ret_deflater = deflater;
    return 0;
}

void qcow2_deflater_free(struct qcow2_deflater *deflater)
{
    if (!deflater)
        return;
    if (deflater->zstd)
        ZSTD_freeCCtx(deflater->zstd);
    else
        deflate_stop(deflater);
    free(deflater);
}

int qcow2_deflate(struct qcow2_deflater *deflater, const uint8_t *src, size_t src_len, uint8_t *dst,
                  size_t dst_len, size_t *ret_len)
{
    return deflater->zstd ? zstd_cluster(deflater->zstd, src, src_len, dst, dst_len, ret_len)
                          : deflate_cluster(deflater, src, src_len, dst, dst_len, ret_len);
}
