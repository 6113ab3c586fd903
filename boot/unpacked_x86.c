/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/unpacked_x86.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/kaslr_x86.h"
#include "boot/kernel_blocks.h"
#include "boot/kernel_cache.h"
#include "boot/loader.h"
#include "boot/plain_kernel.h"
#include "boot/relocs_x86.h"
#include "boot/unpack.h"
#include "boot/vmlinux_x86.h"
#include "memory/layout_x86.h"

/*
 * Room in front of the kernel: its first segment lies that far after the start of the ELF file, so
 * unpacking to there puts it and most of what follows in its place at once.
 */
#define HEAD (2 * MIB)

/* Debian's have 15 MB. */
#define PACKED_MAX (256 * MIB)

/* Memory that goes back to the host when it is unmapped. NULL with *err filled: too much. */
static uint8_t *map_piece(uint64_t len, uint64_t max, struct err *err)
{
    void *data;

    if (len == 0 || len > max) {
        err_set(err, -EFBIG, "%llu bytes of packed data or relocations, expected up to %llu",
                (unsigned long long)len, (unsigned long long)max);
        return NULL;
    }
    data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    return data;
}

/* Where the kernel goes. */
struct place {
    uint64_t gpa;
    uint8_t *area; /* HEAD bytes in front of it */
    uint8_t *kernel;
    size_t kernel_len;
    uint64_t delta; /* of virtual addresses */
    bool random;
};

static bool get_random(uint64_t ret_random[2], struct err *err)
{
    size_t len = 2 * sizeof(ret_random[0]);

    if (getrandom(ret_random, len, GRND_NONBLOCK) == (ssize_t)len)
        return true;
    err_set(err, -EAGAIN, "the host has no random numbers yet");
    return false;
}

/* False with *err filled: there is none. */
static bool choose_place(const struct kernel_image *image, const struct ram_map *map,
                         const char *cmdline, struct place *ret_place, struct err *err)
{
    const struct kernel_payload *payload = &image->payload;
    const struct kernel_segment *own = &image->segments[0];
    const enum kaslr kaslr = kaslr_of_cmdline(cmdline);
    const struct ram_places places = {
        .head = HEAD,
        .len = own->mem_len,
        .align = payload->align,
        .min = own->gpa,
        .limit = kaslr == KASLR_ON ? X86_RAM_END_MAX : own->gpa + own->mem_len,
    };
    uint64_t random[2], gpa;
    void *host;

    if (kaslr == KASLR_STUB) {
        err_set(err, -EINVAL, "there are words for its stub on the command line");
        return false;
    }
    if (!get_random(random, err))
        return false;
    if (!ram_map_choose(map, own->gpa, &places, random[0], &gpa) ||
        guest_mem_at(map->mem, gpa - HEAD, HEAD + own->mem_len, &host) < 0) {
        err_set(err, -ENOSPC, "there is no room for it in front of its place");
        return false;
    }
    *ret_place = (struct place){
        .gpa = gpa,
        .area = host,
        .kernel = (uint8_t *)host + HEAD,
        .kernel_len = own->mem_len,
        .random = kaslr == KASLR_ON,
    };
    if (ret_place->random)
        ret_place->delta =
            kaslr_choose_delta(payload->link_gpa, own->mem_len, payload->align, random[1]);
    return true;
}

/* ---- from the file into the area ------------------------------------------------------------- */

static int unpack_file(const struct boot_file *file, const struct kernel_payload *payload,
                       const struct place *place, size_t *ret_len, struct err *err)
{
    uint8_t *packed = map_piece(payload->len, PACKED_MAX, err);
    struct load load = {.file = file, .off = payload->file_off, .len = payload->len, .dst = packed};
    int r;

    if (!packed)
        return -ENOMEM;
    r = loader_run(&load, 1, err);
    if (r == 0)
        r = unpack(packed, payload->len, place->area, HEAD + place->kernel_len, ret_len, err);
    (void)munmap(packed, payload->len); /* ours, so it cannot fail */
    return r;
}

/* ---- from there to its place ----------------------------------------------------------------- */

/* A kernel without a table was built without KASLR. */
static int copy_table(const uint8_t *table, size_t len, const struct relocs_kernel *kernel,
                      struct plain_kernel *plain, struct err *err)
{
    struct relocs relocs;
    uint8_t *copy;
    int r;

    if (len == 0)
        return 0;
    r = relocs_parse(table, len, kernel, &relocs, err);
    if (r < 0)
        return r;
    copy = map_piece(len, PLAIN_KERNEL_TABLE_MAX, err);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, table, len);
    plain->table = copy;
    plain->table_len = len;
    return 0;
}

/* The table lies where a segment goes. */
static int put(const struct kernel_payload *payload, const struct place *place, size_t len,
               struct plain_kernel *ret_plain, struct err *err)
{
    struct plain_kernel plain = {0};
    struct relocs_kernel kernel = {.link_gpa = payload->link_gpa};
    struct vmlinux vmlinux;
    int r = vmlinux_parse(place->area, len, payload->link_gpa, place->kernel_len, &vmlinux, err);

    if (r < 0)
        return r;
    plain.entry_off = vmlinux.entry_off;
    plain.image_len = align_up(vmlinux.end_off, PLAIN_KERNEL_PAGE);
    kernel.len = vmlinux.end_off;
    r = copy_table(place->area + vmlinux.elf_len, len - vmlinux.elf_len, &kernel, &plain, err);
    if (r < 0)
        return r;
    vmlinux_place(&vmlinux, place->area, len, place->kernel);
    *ret_plain = plain;
    return 0;
}

/* How the kernel is relocated at its place. Its stub, too, would leave one without a table as it is. */
static int plan_blocks(const struct plain_kernel *plain, const struct kernel_payload *payload,
                       const struct place *place, struct relocs *relocs,
                       struct kernel_blocks *ret_blocks, struct err *err)
{
    const struct relocs_kernel kernel = {.link_gpa = payload->link_gpa, .len = plain->image_len};
    int r = 0;

    *ret_blocks = (struct kernel_blocks){
        .kernel = place->kernel,
        .len = plain->image_len,
        .delta = place->delta,
    };
    if (place->random && plain->table) {
        r = relocs_parse(plain->table, plain->table_len, &kernel, relocs, err);
        ret_blocks->relocs = relocs;
    }
    return r;
}

static void describe(const struct plain_kernel *plain, const struct place *place,
                     struct unpacked *ret_unpacked)
{
    *ret_unpacked = (struct unpacked){
        .gpa = place->gpa,
        .entry_gpa = place->gpa + plain->entry_off,
        .kaslr = place->random && plain->table,
    };
}

static void plain_kernel_done(const struct plain_kernel *plain)
{
    if (plain->table)
        (void)munmap(plain->table, plain->table_len);
}

/* ---- one way and the other ------------------------------------------------------------------- */

static int fill(const struct kernel_blocks *blocks, int fd, struct err *err)
{
    const struct boot_file entry = {.fd = fd};
    int r = kernel_blocks_fill(blocks, &entry, KERNEL_CACHE_IMAGE_OFF, err);

    if (r == 0)
        r = kernel_blocks_relocate(blocks, err);
    if (r < 0)
        guest_mem_unmap_file(blocks->kernel, blocks->len);
    return r;
}

static int load_cached(const struct unpacked_source *source, const struct kernel_cache_key *key,
                       const struct place *place, struct unpacked *ret_unpacked, struct err *err)
{
    struct kernel_blocks blocks;
    struct plain_kernel plain;
    struct relocs relocs;
    int fd, r;

    if (!kernel_cache_find(source->cache, key, place->kernel_len, &plain, &fd))
        return err_set(err, -ENOENT, "not in the cache");
    r = plan_blocks(&plain, &source->image->payload, place, &relocs, &blocks, err);
    if (r == 0)
        r = fill(&blocks, fd, err);
    close(fd);
    if (r == 0)
        describe(&plain, place, ret_unpacked);
    plain_kernel_done(&plain);
    return r;
}

/* What was unpacked is in place: keep it as it was linked, then move it. */
static int finish(const struct unpacked_source *source, const struct kernel_cache_key *key,
                  const struct place *place, const struct plain_kernel *plain,
                  struct unpacked *ret_unpacked, struct err *err)
{
    struct kernel_blocks blocks;
    struct relocs relocs;
    int r = plan_blocks(plain, &source->image->payload, place, &relocs, &blocks, err);

    if (r < 0)
        return r;
    if (key)
        kernel_cache_store(source->cache, source->file, key, plain, place->kernel);
    r = kernel_blocks_relocate(&blocks, err);
    if (r == 0)
        describe(plain, place, ret_unpacked);
    return r;
}

static int load_packed(const struct unpacked_source *source, const struct kernel_cache_key *key,
                       const struct place *place, struct unpacked *ret_unpacked, struct err *err)
{
    const struct kernel_payload *payload = &source->image->payload;
    struct plain_kernel plain;
    size_t len = 0;
    int r;

    guest_mem_prefer_huge(place->area, (size_t)(place->kernel - place->area) + place->kernel_len);
    r = unpack_file(source->file, payload, place, &len, err);
    if (r == 0)
        r = put(payload, place, len, &plain, err);
    if (r == 0) {
        r = finish(source, key, place, &plain, ret_unpacked, err);
        plain_kernel_done(&plain);
    }
    if (r < 0)
        guest_mem_clear(place->area, (size_t)(place->kernel - place->area) + place->kernel_len);
    return r;
}

int unpacked_load(const struct unpacked_source *source, const struct ram_map *map,
                  const char *cmdline, struct unpacked *ret_unpacked, struct err *err)
{
    struct kernel_cache_key key;
    struct place place;
    bool has_key;

    if (!choose_place(source->image, map, cmdline, &place, err))
        return -EINVAL;
    has_key = source->cache && kernel_cache_key(source->file, &key);
    if (has_key && load_cached(source, &key, &place, ret_unpacked, err) == 0)
        return 0;
    return load_packed(source, has_key ? &key : NULL, &place, ret_unpacked, err);
}
