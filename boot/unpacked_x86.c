#include "boot/unpacked_x86.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/log.h"
#include "boot/kaslr_x86.h"
#include "boot/loader.h"
#include "boot/relocs_x86.h"
#include "boot/unpack.h"
#include "boot/vmlinux_x86.h"
#include "memory/layout_x86.h"

/*
 * Room in front of the kernel: its first segment lies that far behind the start of the ELF file, so
 * unpacking to there puts it and most of what follows in its place at once.
 */
#define HEAD (2 * MIB)

/* Debian's have 15 MB and 1.3 MB. */
#define PACKED_MAX (256 * MIB)
#define TABLE_MAX (16 * MIB)

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
    uint8_t *area; /* HEAD bytes in front of the kernel's place */
    size_t area_len;
    uint64_t delta; /* of virtual addresses */
    bool random;
};

static int get_random(uint64_t ret_random[2], struct err *err)
{
    if (getrandom(ret_random, 2 * sizeof(ret_random[0]), GRND_NONBLOCK) !=
        2 * sizeof(ret_random[0]))
        return err_set(err, -EAGAIN, "the host has no random numbers yet");
    return 0;
}

static int choose_place(const struct kernel_image *image, const struct ram_map *map,
                        const char *cmdline, struct place *ret_place, struct err *err)
{
    const struct kernel_payload *payload = &image->payload;
    const struct kernel_segment *own = &image->segments[0];
    const enum kaslr kaslr = kaslr_of_cmdline(cmdline);
    struct ram_places places = {
        .head = HEAD,
        .len = own->mem_len,
        .align = payload->align,
        .min = own->gpa,
        .limit = kaslr == KASLR_ON ? X86_HIGH_RAM_START : own->gpa + own->mem_len,
    };
    struct place place = {.random = kaslr == KASLR_ON, .area_len = HEAD + own->mem_len};
    uint64_t random[2];
    void *host;
    int r;

    if (kaslr == KASLR_STUB)
        return err_set(err, -EINVAL, "its command line says where memory can be used");
    r = get_random(random, err);
    if (r < 0)
        return r;
    if (!ram_map_choose(map, own->gpa, &places, random[0], &place.gpa) ||
        guest_mem_at(map->mem, place.gpa - HEAD, place.area_len, &host) < 0)
        return err_set(err, -ENOSPC, "there is no room for it in front of its place");
    place.area = host;
    if (place.random)
        place.delta =
            kaslr_choose_delta(payload->link_gpa, own->mem_len, payload->align, random[1]);
    *ret_place = place;
    return 0;
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
        r = unpack(packed, payload->len, place->area, place->area_len, ret_len, err);
    (void)munmap(packed, payload->len); /* ours, so it cannot fail */
    return r;
}

/* ---- from there to its place ----------------------------------------------------------------- */

/* Move it, and relocate it by its table, which is in the way. */
static int relocate(const struct vmlinux *vmlinux, const struct kernel_payload *payload,
                    const struct place *place, size_t len, struct err *err)
{
    uint8_t *kernel = place->area + HEAD;
    size_t table_len = len - vmlinux->elf_len;
    uint8_t *table = map_piece(table_len, TABLE_MAX, err);
    struct relocs relocs;
    int r;

    if (!table)
        return -ENOMEM;
    memcpy(table, place->area + vmlinux->elf_len, table_len);
    r = relocs_parse(table, table_len, &relocs, err);
    if (r == 0) {
        vmlinux_place(vmlinux, place->area, len, kernel);
        r = relocs_apply(&relocs, kernel, place->area_len - HEAD, payload->link_gpa, place->delta,
                         err);
    }
    (void)munmap(table, table_len);
    return r;
}

/* A kernel without a table was built without KASLR, and its stub would leave it as it is, too. */
static int put(const struct kernel_image *image, const struct place *place, size_t len,
               struct unpacked *ret_unpacked, struct err *err)
{
    const struct kernel_payload *payload = &image->payload;
    struct vmlinux vmlinux;
    bool kaslr;
    int r =
        vmlinux_parse(place->area, len, payload->link_gpa, place->area_len - HEAD, &vmlinux, err);

    if (r < 0)
        return r;
    kaslr = place->random && len > vmlinux.elf_len;
    if (kaslr)
        r = relocate(&vmlinux, payload, place, len, err);
    else
        vmlinux_place(&vmlinux, place->area, len, place->area + HEAD);
    if (r == 0)
        *ret_unpacked =
            (struct unpacked){.entry_gpa = place->gpa + vmlinux.entry_off, .kaslr = kaslr};
    return r;
}

int unpacked_load(const struct boot_file *file, const struct kernel_image *image,
                  const struct ram_map *map, const char *cmdline, struct unpacked *ret_unpacked,
                  struct err *err)
{
    struct place place = {0};
    size_t len = 0;
    int r = choose_place(image, map, cmdline, &place, err);

    if (r < 0)
        return r;
    r = unpack_file(file, &image->payload, &place, &len, err);
    if (r == 0)
        r = put(image, &place, len, ret_unpacked, err);
    if (r < 0)
        guest_mem_clear(place.area, place.area_len);
    return r;
}
