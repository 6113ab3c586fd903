/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/relocs_x86.h"

#include <errno.h>

#include "base/bytes.h"

#define WORD sizeof(uint32_t)

/* Where Linux maps physical address 0 for its own image: __START_KERNEL_map. */
#define KERNEL_MAP 0xffffffff80000000ull

#define LISTS_MAX 3u

enum kind { ADD64, SUBTRACT32, ADD32 };

int relocs_parse(const uint8_t *table, size_t len, struct relocs *ret_relocs, struct err *err)
{
    struct relocs_list lists[LISTS_MAX] = {0};
    size_t n = 0;

    if (len == 0 || len % WORD != 0 || load_le32(table) != 0)
        return err_set(err, -EINVAL, "%zu bytes behind its ELF file are no table of relocations",
                       len);
    for (size_t off = 0; off < len; off += WORD) {
        if (load_le32(table + off) != 0) {
            lists[n - 1].n++;
            continue;
        }
        if (n == LISTS_MAX)
            return err_set(err, -EINVAL, "its table of relocations has more than %u lists",
                           LISTS_MAX);
        lists[n++].words = table + off + WORD;
    }
    if (n < LISTS_MAX - 1)
        return err_set(err, -EINVAL, "its table of relocations has one list only");
    *ret_relocs = (struct relocs){.add64 = lists[0], .add32 = lists[n - 1]};
    if (n == LISTS_MAX)
        ret_relocs->subtract32 = lists[1];
    return 0;
}

static void relocate(uint8_t *at, enum kind kind, uint64_t delta)
{
    switch (kind) {
    case ADD64:
        store_le64(at, load_le64(at) + delta);
        break;
    case SUBTRACT32:
        store_le32(at, load_le32(at) - (uint32_t)delta);
        break;
    case ADD32:
        store_le32(at, load_le32(at) + (uint32_t)delta);
        break;
    }
}

static int apply_list(const struct relocs_list *list, enum kind kind, uint8_t *kernel, size_t len,
                      uint64_t link_gpa, uint64_t delta, struct err *err)
{
    size_t width = kind == ADD64 ? sizeof(uint64_t) : sizeof(uint32_t);

    for (size_t i = 0; i < list->n; i++) {
        uint64_t virt = (uint64_t)(int32_t)load_le32(list->words + i * WORD);
        uint64_t off = virt - KERNEL_MAP - link_gpa;

        if (!range_fits(off, width, len))
            return err_set(err, -EINVAL, "relocation at %#llx, outside the kernel",
                           (unsigned long long)virt);
        relocate(kernel + off, kind, delta);
    }
    return 0;
}

int relocs_apply(const struct relocs *relocs, uint8_t *kernel, size_t len, uint64_t link_gpa,
                 uint64_t delta, struct err *err)
{
    int r = apply_list(&relocs->add64, ADD64, kernel, len, link_gpa, delta, err);

    if (r == 0)
        r = apply_list(&relocs->subtract32, SUBTRACT32, kernel, len, link_gpa, delta, err);
    if (r == 0)
        r = apply_list(&relocs->add32, ADD32, kernel, len, link_gpa, delta, err);
    return r;
}
