/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/unpacked_x86.h"

#include <errno.h>

#include "base/log.h"
#include "base/random.h"
#include "boot/kaslr_x86.h"
#include "boot/kernel_blocks.h"
#include "boot/kernel_cache.h"
#include "boot/plain_kernel.h"
#include "boot/relocs_x86.h"
#include "memory/layout_x86.h"

/* Where the kernel goes. */
struct place {
    uint64_t gpa;
    uint8_t *area; /* PLAIN_KERNEL_HEAD bytes in front of it */
    uint8_t *kernel;
    size_t kernel_len;
    uint64_t delta; /* of virtual addresses */
    bool random;
};

/* False with *err filled: there is none. */
static bool choose_place(const struct kernel_image *image, const struct ram_map *map,
                         const char *cmdline, struct place *ret_place, struct err *err)
{
    const struct kernel_payload *payload = &image->payload;
    const struct kernel_segment *own = &image->segments[0];
    const enum kaslr kaslr = kaslr_of_cmdline(cmdline);
    const struct ram_places places = {
        .head = PLAIN_KERNEL_HEAD,
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
    if (!random_bytes(random, sizeof(random))) {
        err_set(err, -EAGAIN, "the host has no random numbers yet");
        return false;
    }
    if (!ram_map_choose(map, own->gpa, &places, random[0], &gpa) ||
        guest_mem_at(map->mem, gpa - PLAIN_KERNEL_HEAD, PLAIN_KERNEL_HEAD + own->mem_len, &host) <
            0) {
        err_set(err, -ENOSPC, "there is no room for it in front of its place");
        return false;
    }
    *ret_place = (struct place){
        .gpa = gpa,
        .area = host,
        .kernel = (uint8_t *)host + PLAIN_KERNEL_HEAD,
        .kernel_len = own->mem_len,
        .random = kaslr == KASLR_ON,
    };
    if (ret_place->random)
        ret_place->delta =
            kaslr_choose_delta(payload->link_gpa, own->mem_len, payload->align, random[1]);
    return true;
}

/* ---- from its place as it was linked to where it runs ---------------------------------------- */

/*
 * How the kernel is relocated at its place. Its stub, too, would leave one without a table as it
 * is.
 */
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

/* ---- one way and the other ------------------------------------------------------------------- */

static int fill(const struct kernel_blocks *blocks, int fd, struct err *err)
{
    const struct boot_file entry = {.fd = fd};
    int r = kernel_blocks_fill(blocks, &entry, KERNEL_CACHE_IMAGE_OFF, err);

    if (r == 0)
        r = kernel_blocks_relocate(blocks, err);
    if (r < 0 && r != GUEST_MEM_LOST && guest_mem_unmap_file(blocks->kernel, blocks->len) < 0)
        r = GUEST_MEM_LOST;
    if (r == GUEST_MEM_LOST)
        (void)err_set(err, r, "the place of the kernel in guest memory is lost");
    return r;
}

/* -ENOENT: nothing is in the cache. */
static int load_cached(const struct unpacked_source *source, const struct kernel_cache_key *key,
                       const struct place *place, struct unpacked *ret_unpacked, struct err *err)
{
    struct kernel_cache_entry entry;
    struct kernel_blocks blocks;
    struct relocs relocs;
    int r = kernel_cache_find(source->cache, key, place->kernel_len, place->random, &entry, err);

    if (r < 0)
        return r;
    r = plan_blocks(&entry.kernel, &source->image->payload, place, &relocs, &blocks, err);
    if (r == 0)
        r = fill(&blocks, entry.fd, err);
    if (r == 0)
        describe(&entry.kernel, place, ret_unpacked);
    kernel_cache_entry_close(&entry);
    return r;
}

static void keep(const struct unpacked_source *source, const struct kernel_cache_key *key,
                 const struct plain_kernel *plain, const uint8_t *image)
{
    struct err err;

    if (kernel_cache_store(source->cache, source->file, key, plain, image, &err) < 0)
        log_info("the unpacked kernel is not kept: %s", err.msg);
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
        keep(source, key, plain, place->kernel);
    r = kernel_blocks_relocate(&blocks, err);
    if (r == 0)
        describe(plain, place, ret_unpacked);
    return r;
}

static int load_packed(const struct unpacked_source *source, const struct kernel_cache_key *key,
                       const struct place *place, struct unpacked *ret_unpacked, struct err *err)
{
    struct plain_kernel plain;
    int r = plain_kernel_unpack(source->file, &source->image->payload, place->area,
                                place->kernel_len, &plain, err);

    if (r == 0) {
        r = finish(source, key, place, &plain, ret_unpacked, err);
        plain_kernel_done(&plain);
    }
    if (r < 0)
        guest_mem_clear(place->area, PLAIN_KERNEL_HEAD + place->kernel_len);
    return r;
}

/* True: this is the key of what is, or shall be, in the cache. */
static bool get_key(const struct unpacked_source *source, struct kernel_cache_key *ret_key)
{
    struct err err;

    if (!source->cache)
        return false;
    if (kernel_cache_key(source->file, ret_key, &err) == 0)
        return true;
    log_info("the cache of kernels is not used: %s", err.msg);
    return false;
}

int unpacked_load(const struct unpacked_source *source, const struct ram_map *map,
                  const char *cmdline, struct unpacked *ret_unpacked, struct err *err)
{
    struct kernel_cache_key key;
    struct place place;
    bool has_key;
    int r;

    if (!choose_place(source->image, map, cmdline, &place, err))
        return -EINVAL;
    has_key = get_key(source, &key);
    if (has_key) {
        r = load_cached(source, &key, &place, ret_unpacked, err);
        if (r == 0 || r == GUEST_MEM_LOST)
            return r;
        if (r != -ENOENT)
            log_info("the cache of kernels is not used: %s", err->msg);
    }
    return load_packed(source, has_key ? &key : NULL, &place, ret_unpacked, err);
}
