/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/page_walk_x86.h"

#include <errno.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "memory/bits_x86.h"

/* Intel SDM 3A, chapter 4; AMD APM 2, chapter 5. */
#define PAGE_BITS 12u
#define INDEX_BITS 9u         /* of a table with entries of 8 bytes */
#define INDEX_BITS_LEGACY 10u /* of 4 bytes */

/* Of a large page of 4 MiB, bits 39 to 32 of the address are in bits 20 to 13 of its entry. */
#define LEGACY_LARGE_LOW 0xffc00000ull
#define LEGACY_LARGE_HIGH 0x1fe000ull
#define LEGACY_LARGE_SHIFT 19u

/* How a table of some depth is read. */
struct format {
    unsigned levels;
    unsigned index_bits;
    unsigned entry_len;
    unsigned largest; /* a page may end the walk at this level and below; the last is level 1 */
};

static struct format format_of(const struct page_walk_x86 *how)
{
    if ((how->efer & EFER_LMA) != 0)
        return (struct format){(how->cr4 & CR4_LA57) != 0 ? 5 : 4, INDEX_BITS, 8, 3};
    if ((how->cr4 & CR4_PAE) != 0)
        return (struct format){3, INDEX_BITS, 8, 2};
    return (struct format){2, INDEX_BITS_LEGACY, 4, (how->cr4 & CR4_PSE) != 0 ? 2 : 1};
}

/* In 64-bit mode, an address is sign-extended from the highest bit that the tables translate. */
static uint64_t canonical(const struct format *format, uint64_t va)
{
    unsigned unused = 64 - (PAGE_BITS + format->levels * format->index_bits);

    return (uint64_t)((int64_t)(va << unused) >> unused);
}

/* Addresses that are not canonical are translated by no processor. */
static bool is_valid(const struct format *format, const struct page_walk_x86 *how, uint64_t va)
{
    return (how->efer & EFER_LMA) == 0 ? va <= UINT32_MAX : canonical(format, va) == va;
}

static uint64_t root_of(const struct format *format, const struct page_walk_x86 *how)
{
    /* The four entries of PAE's first level are aligned to 32 bytes only. */
    if (format->levels == 3)
        return how->cr3 & 0xffffffe0u;
    return how->cr3 & PTE_GPA;
}

static int read_entry(const struct guest_mem *mem, uint64_t gpa, unsigned len, uint64_t *ret_entry)
{
    uint8_t bytes[8] = {0};
    int r = guest_mem_read(mem, gpa, bytes, len);

    *ret_entry = load_le64(bytes);
    return r;
}

static bool is_page(const struct format *format, unsigned level, uint64_t entry)
{
    return level == 1 || (level <= format->largest && (entry & PTE_LARGE) != 0);
}

static uint64_t page_of(const struct format *format, uint64_t entry, uint64_t page_len)
{
    if (format->entry_len == 4 && page_len > (1u << PAGE_BITS))
        return (entry & LEGACY_LARGE_LOW) | (entry & LEGACY_LARGE_HIGH) << LEGACY_LARGE_SHIFT;
    return align_down(entry & PTE_GPA, page_len);
}

int page_walk_x86(const struct guest_mem *mem, const struct page_walk_x86 *how, uint64_t va,
                  uint64_t *ret_gpa, uint64_t *ret_len)
{
    const struct format format = format_of(how);
    uint64_t table = root_of(&format, how);

    if ((how->cr0 & CR0_PG) == 0) {
        *ret_gpa = va;
        *ret_len = (1u << PAGE_BITS) - (va & ((1u << PAGE_BITS) - 1));
        return 0;
    }
    if (!is_valid(&format, how, va))
        return -EFAULT;
    for (unsigned level = format.levels; level >= 1; level--) {
        unsigned shift = PAGE_BITS + (level - 1) * format.index_bits;
        uint64_t index = va >> shift & ((1u << format.index_bits) - 1);
        uint64_t page_len = 1ull << shift;
        uint64_t entry;

        if (read_entry(mem, table + index * format.entry_len, format.entry_len, &entry) < 0 ||
            (entry & PTE_PRESENT) == 0)
            return -EFAULT;
        if (is_page(&format, level, entry)) {
            *ret_gpa = page_of(&format, entry, page_len) + (va & (page_len - 1));
            *ret_len = page_len - (va & (page_len - 1));
            return 0;
        }
        table = entry & PTE_GPA;
    }
    return -EFAULT;
}

int page_walk_x86_read(const struct guest_mem *mem, const struct page_walk_x86 *how, uint64_t va,
                       void *buf, size_t len)
{
    uint8_t *to = buf;

    while (len > 0) {
        uint64_t gpa, n;
        int r = page_walk_x86(mem, how, va, &gpa, &n);

        if (r < 0)
            return r;
        n = min_u64(n, len);
        r = guest_mem_read(mem, gpa, to, n);
        if (r < 0)
            return r;
        to += n;
        va += n;
        len -= n;
    }
    return 0;
}

/* ---- all pages ------------------------------------------------------------------------------- */

#define ALL_RIGHTS (PTE_WRITE | PTE_USER)

struct survey {
    const struct guest_mem *mem;
    const struct page_walk_x86 *how;
    struct format format;
    page_walk_x86_fn *each;
    void *opaque;
    unsigned ntables;
};

/* PAE's first table has four entries, which say nothing of rights. */
static bool is_pae_root(const struct survey *survey, unsigned level)
{
    return survey->format.levels == 3 && level == 3;
}

static bool tell_page(const struct survey *survey, uint64_t va, uint64_t len, uint64_t rights)
{
    const struct page_x86 page = {
        .va = (survey->how->efer & EFER_LMA) != 0 ? canonical(&survey->format, va) : va,
        .len = len,
        .writable = (rights & PTE_WRITE) != 0,
        .user = (rights & PTE_USER) != 0,
    };

    return survey->each(survey->opaque, &page);
}

/* No deeper than `level`, which is at most 5. False: enough. */
static bool survey_table(struct survey *survey, uint64_t table, unsigned level, uint64_t va,
                         uint64_t rights)
{
    const struct format *format = &survey->format;
    const uint64_t len = 1ull << (PAGE_BITS + (level - 1) * format->index_bits);
    const unsigned n = is_pae_root(survey, level) ? 4 : 1u << format->index_bits;

    if (survey->ntables++ >= PAGE_WALK_X86_TABLES_MAX)
        return false;
    for (unsigned i = 0; i < n; i++, va += len) {
        uint64_t allowed = rights;
        bool goes_on;
        uint64_t entry;

        if (read_entry(survey->mem, table + (uint64_t)i * format->entry_len, format->entry_len,
                       &entry) < 0)
            return true; /* no table is there */
        if ((entry & PTE_PRESENT) == 0)
            continue;
        if (!is_pae_root(survey, level))
            allowed &= entry;
        if (is_page(format, level, entry))
            goes_on = tell_page(survey, va, len, allowed);
        else
            goes_on = survey_table(survey, entry & PTE_GPA, level - 1, va, allowed);
        if (!goes_on)
            return false;
    }
    return true;
}

bool page_walk_x86_each(const struct guest_mem *mem, const struct page_walk_x86 *how,
                        page_walk_x86_fn *each, void *opaque)
{
    struct survey survey = {
        .mem = mem, .how = how, .format = format_of(how), .each = each, .opaque = opaque};

    if ((how->cr0 & CR0_PG) == 0)
        return true;
    return survey_table(&survey, root_of(&survey.format, how), survey.format.levels, 0, ALL_RIGHTS);
}
