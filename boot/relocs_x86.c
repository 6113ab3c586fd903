/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/relocs_x86.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>

#include "base/bytes.h"

#define WORD sizeof(uint32_t)

/* Where Linux maps physical address 0 for its own image: __START_KERNEL_map. */
#define KERNEL_MAP 0xffffffff80000000ull

#define LISTS_MAX 3u

#define PAGE 4096u

/* ---- the table ------------------------------------------------------------------------------- */

/* Place `i` of a list, from the start of a kernel that is linked for `link_gpa`. */
static uint64_t place(const struct relocs_list *list, uint64_t link_gpa, size_t i)
{
    uint64_t virt = (uint64_t)(int32_t)load_le32(list->words + i * WORD);

    return virt - KERNEL_MAP - link_gpa;
}

static int check_list(const struct relocs_list *list, size_t width,
                      const struct relocs_kernel *kernel, struct err *err)
{
    uint64_t before = 0;

    for (size_t i = 0; i < list->n; i++) {
        uint64_t off = place(list, kernel->link_gpa, i);

        if (!range_fits(off, width, kernel->len))
            return err_set(err, -EINVAL, "relocation at %#llx, outside the kernel",
                           (unsigned long long)(off + KERNEL_MAP + kernel->link_gpa));
        if (off < before)
            return err_set(err, -EINVAL, "its relocations are not in order");
        before = off;
    }
    return 0;
}

/* Two or three lists. False with *err filled: it is no table. */
static bool find_lists(const uint8_t *table, size_t len, struct relocs_list lists[LISTS_MAX],
                       size_t *ret_n, struct err *err)
{
    size_t n = 0;

    if (len == 0 || len % WORD != 0 || load_le32(table) != 0) {
        err_set(err, -EINVAL, "%zu bytes behind its ELF file are no table of relocations", len);
        return false;
    }
    for (size_t off = 0; off < len; off += WORD) {
        if (load_le32(table + off) != 0) {
            lists[n - 1].n++;
            continue;
        }
        if (n == LISTS_MAX) {
            err_set(err, -EINVAL, "its table of relocations has more than %u lists", LISTS_MAX);
            return false;
        }
        lists[n++].words = table + off + WORD;
    }
    if (n < LISTS_MAX - 1) {
        err_set(err, -EINVAL, "its table of relocations has one list only");
        return false;
    }
    *ret_n = n;
    return true;
}

int relocs_parse(const uint8_t *table, size_t len, const struct relocs_kernel *kernel,
                 struct relocs *ret_relocs, struct err *err)
{
    struct relocs_list lists[LISTS_MAX] = {0};
    struct relocs relocs;
    size_t n = 0;
    int r;

    if (!find_lists(table, len, lists, &n, err))
        return -EINVAL;
    relocs = (struct relocs){
        .link_gpa = kernel->link_gpa,
        .add64 = lists[0],
        .subtract32 = n == LISTS_MAX ? lists[1] : (struct relocs_list){.words = table},
        .add32 = lists[n - 1],
    };
    r = check_list(&relocs.add64, sizeof(uint64_t), kernel, err);
    if (r == 0)
        r = check_list(&relocs.subtract32, sizeof(uint32_t), kernel, err);
    if (r == 0)
        r = check_list(&relocs.add32, sizeof(uint32_t), kernel, err);
    if (r == 0)
        *ret_relocs = relocs;
    return r;
}

/* ---- pieces of the kernel -------------------------------------------------------------------- */

/* How many places of a list lie before `off`. */
static size_t count_before(const struct relocs_list *list, uint64_t link_gpa, uint64_t off)
{
    size_t low = 0, high = list->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (place(list, link_gpa, middle) < off)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The places of a list that lie in a piece of the kernel. */
static struct relocs_list cut(const struct relocs_list *list, uint64_t link_gpa, uint64_t off,
                              uint64_t len)
{
    size_t first = count_before(list, link_gpa, off);

    return (struct relocs_list){
        .words = list->words + first * WORD,
        .n = count_before(list, link_gpa, off + len) - first,
    };
}

static void mark_pages(const struct relocs_list *list, uint64_t link_gpa, uint64_t off,
                       uint64_t len, uint64_t pages[RELOCS_PIECE_MAX / PAGE / 64])
{
    const struct relocs_list piece = cut(list, link_gpa, off, len);

    for (size_t i = 0; i < piece.n; i++) {
        uint64_t page = (place(&piece, link_gpa, i) - off) / PAGE;

        pages[page / 64] |= 1ull << page % 64;
    }
}

size_t relocs_count_pages(const struct relocs *relocs, uint64_t off, uint64_t len)
{
    uint64_t pages[RELOCS_PIECE_MAX / PAGE / 64] = {0};
    size_t n = 0;

    assert(len <= RELOCS_PIECE_MAX);
    mark_pages(&relocs->add64, relocs->link_gpa, off, len, pages);
    mark_pages(&relocs->subtract32, relocs->link_gpa, off, len, pages);
    mark_pages(&relocs->add32, relocs->link_gpa, off, len, pages);
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
        n += (size_t)__builtin_popcountll(pages[i]);
    return n;
}

static void add64(const struct relocs_list *piece, uint64_t link_gpa, uint8_t *kernel,
                  uint64_t delta)
{
    for (size_t i = 0; i < piece->n; i++) {
        uint8_t *at = kernel + place(piece, link_gpa, i);

        store_le64(at, load_le64(at) + delta);
    }
}

static void add32(const struct relocs_list *piece, uint64_t link_gpa, uint8_t *kernel,
                  uint32_t delta)
{
    for (size_t i = 0; i < piece->n; i++) {
        uint8_t *at = kernel + place(piece, link_gpa, i);

        store_le32(at, load_le32(at) + delta);
    }
}

void relocs_apply(const struct relocs *relocs, uint8_t *kernel, uint64_t off, uint64_t len,
                  uint64_t delta)
{
    const uint64_t link_gpa = relocs->link_gpa;
    struct relocs_list piece = cut(&relocs->add64, link_gpa, off, len);

    add64(&piece, link_gpa, kernel, delta);
    piece = cut(&relocs->subtract32, link_gpa, off, len);
    add32(&piece, link_gpa, kernel, -(uint32_t)delta);
    piece = cut(&relocs->add32, link_gpa, off, len);
    add32(&piece, link_gpa, kernel, (uint32_t)delta);
}
