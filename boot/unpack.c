/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/unpack.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "boot/loader.h"
#include "boot/workers.h"

/* The unpacked size at the end, which gzip has itself and the kernel's build adds to others. */
#define SIZE_LEN sizeof(uint32_t)

/* Linux' kernel image is at most that large; and zlib counts with 32 bits. */
#define UNPACKED_MAX GIB

/* Pages are found for so many bytes at once by the thread that does not unpack. */
#define POPULATE_PIECE MIB

/* The legacy frames of `lz4 -l`: a magic number, and blocks after their packed sizes. */
#define LZ4_MAGIC_LEN 4u
#define LZ4_BLOCK (8 * MIB)
#define LZ4_BLOCKS_MAX (UNPACKED_MAX / LZ4_BLOCK)

/* The kernel's build asks for a dictionary of up to 128 MiB; the rest is for xz itself. */
#define XZ_MEMORY_MAX (160 * MIB)

struct span {
    const uint8_t *src;
    size_t src_len;
    uint8_t *dst;
    size_t dst_len; /* of unpacked data, exactly */
};

/* ---- the packings: each fills its span exactly, or fails ------------------------------------- */

static bool unpack_gzip(const struct span *span)
{
    z_stream stream = {
        .next_in = (Bytef *)(uintptr_t)span->src, /* zlib's interface has no const */
        .avail_in = (uInt)span->src_len,
        .next_out = span->dst,
        .avail_out = (uInt)span->dst_len,
    };
    bool good;

    if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) /* 16: with gzip's header */
        return false;
    good = inflate(&stream, Z_FINISH) == Z_STREAM_END && stream.avail_out == 0;
    (void)inflateEnd(&stream); /* fails only for a stream that never was */
    return good;
}

static bool unpack_xz(const struct span *span)
{
    uint64_t memory = XZ_MEMORY_MAX;
    size_t in = 0, out = 0;

    return lzma_stream_buffer_decode(&memory, 0, NULL, span->src, &in, span->src_len, span->dst,
                                     &out, span->dst_len) == LZMA_OK &&
           out == span->dst_len;
}

static bool unpack_zstd(const struct span *span)
{
    return ZSTD_decompress(span->dst, span->dst_len, span->src, span->src_len) == span->dst_len;
}

static bool unpack_lz4_block(const struct span *span)
{
    return LZ4_decompress_safe((const char *)span->src, (char *)span->dst, (int)span->src_len,
                               (int)span->dst_len) == (int)span->dst_len;
}

/* ---- two threads ----------------------------------------------------------------------------- */

static int damaged(struct err *err)
{
    return err_set(err, -EINVAL, "its packed data are damaged");
}

struct lz4_blocks {
    struct span blocks[LZ4_BLOCKS_MAX];
    size_t n;
};

/* Where blocks are: each unpacks to 8 MiB, the last one to what is left. */
static bool find_lz4_blocks(const struct span *span, struct lz4_blocks *ret_blocks)
{
    size_t n = div_round_up(span->dst_len, LZ4_BLOCK);
    size_t off = LZ4_MAGIC_LEN;

    for (size_t i = 0; i < n; i++) {
        size_t len;

        if (!range_fits(off, sizeof(uint32_t), span->src_len))
            return false;
        len = load_le32(span->src + off);
        off += sizeof(uint32_t);
        if (!range_fits(off, len, span->src_len) || len > LZ4_COMPRESSBOUND(LZ4_BLOCK))
            return false;
        ret_blocks->blocks[i] = (struct span){
            .src = span->src + off,
            .src_len = len,
            .dst = span->dst + i * LZ4_BLOCK,
            .dst_len = min_u64(LZ4_BLOCK, span->dst_len - i * LZ4_BLOCK),
        };
        off += len;
    }
    ret_blocks->n = n;
    return off == span->src_len;
}

static int run_lz4_block(void *opaque, size_t i, struct err *err)
{
    const struct span *block = &((const struct lz4_blocks *)opaque)->blocks[i];

    loader_populate(block->dst, block->dst_len);
    return unpack_lz4_block(block) ? 0 : damaged(err);
}

static int run_lz4(const struct span *span, struct err *err)
{
    struct lz4_blocks blocks;

    if (!find_lz4_blocks(span, &blocks))
        return damaged(err);
    return workers_run(blocks.n, run_lz4_block, &blocks, err);
}

struct one_stream {
    const struct span *span;
    bool (*unpack)(const struct span *span);
};

/* One thread unpacks; the other finds the pages, ahead of it. */
static int run_stream_piece(void *opaque, size_t i, struct err *err)
{
    const struct one_stream *stream = opaque;
    const struct span *span = stream->span;
    size_t off;

    if (i == 0)
        return stream->unpack(span) ? 0 : damaged(err);
    off = (i - 1) * POPULATE_PIECE;
    loader_populate(span->dst + off, min_u64(POPULATE_PIECE, span->dst_len - off));
    return 0;
}

static int run_stream(const struct span *span, bool (*one)(const struct span *span),
                      struct err *err)
{
    struct one_stream stream = {.span = span, .unpack = one};

    return workers_run(1 + div_round_up(span->dst_len, POPULATE_PIECE), run_stream_piece, &stream,
                       err);
}

int unpack(const uint8_t *packed, size_t len, uint8_t *dst, size_t room, size_t *ret_len,
           struct err *err)
{
    struct span span = {.src = packed, .src_len = len - SIZE_LEN, .dst = dst};
    const uint64_t begin_ns = trace_begin();
    int r;

    if (len < 2 * SIZE_LEN || len > UINT32_MAX)
        return err_set(err, -EINVAL, "%zu bytes of packed data", len);
    span.dst_len = load_le32(packed + len - SIZE_LEN);
    if (span.dst_len == 0 || span.dst_len > min_u64(room, UNPACKED_MAX))
        return err_set(err, -EINVAL, "it is %zu bytes when unpacked, expected up to %zu",
                       span.dst_len, room);

    switch (load_be16(packed)) {
    case 0x1f8b:
        span.src_len = len; /* the size is its own */
        r = run_stream(&span, unpack_gzip, err);
        break;
    case 0xfd37:
        r = run_stream(&span, unpack_xz, err);
        break;
    case 0x0221:
        r = run_lz4(&span, err);
        break;
    case 0x28b5:
        r = run_stream(&span, unpack_zstd, err);
        break;
    default:
        return err_set(err, -ENOTSUP, "packed in an unknown way: %#x", load_be16(packed));
    }
    trace_span("unpack the kernel", begin_ns);
    if (r == 0)
        *ret_len = span.dst_len;
    return r;
}
