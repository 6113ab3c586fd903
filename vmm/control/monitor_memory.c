/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/monitor_memory.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"

#define LINE_BYTES 16u

struct format {
    unsigned count;
    unsigned size; /* of an item: 1, 2, 4 or 8 */
    char letter;
};

/* ---- what is wanted -------------------------------------------------------------------------- */

static bool take_letter(struct format *format, char c)
{
    static const char sizes[] = "bhwg";
    const char *size = c ? strchr(sizes, c) : NULL;

    if (size)
        format->size = 1u << (size - sizes);
    else if (c && strchr("xduoc", c))
        format->letter = c;
    else
        return false;
    return true;
}

/* "/4xw" and its like, up to a blank. NULL: it makes no sense; else what comes after it. */
static const char *parse_format(const char *text, struct format *ret_format)
{
    unsigned count = 0;
    bool counted = false;

    while (*text >= '0' && *text <= '9') {
        count = count * 10 + (unsigned)(*text++ - '0');
        counted = true;
        if (count > MONITOR_MEMORY_MAX)
            return NULL;
    }
    if (counted)
        ret_format->count = count;
    for (; *text && *text != ' '; text++)
        if (!take_letter(ret_format, *text))
            return NULL;
    return text;
}

static bool parse_words(const char *words, struct format *ret_format, uint64_t *ret_address)
{
    *ret_format = (struct format){.count = 1, .size = 4, .letter = 'x'};
    if (*words == '/')
        words = parse_format(words + 1, ret_format);
    if (!words)
        return false;
    if (ret_format->letter == 'c')
        ret_format->size = 1;
    words += strspn(words, " ");
    return parse_u64(words, ret_address) == 0 &&
           (uint64_t)ret_format->count * ret_format->size <= MONITOR_MEMORY_MAX;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Bytes at a virtual address lie in one page after the other, wherever those are. */
static bool read_virtual(struct control_vm *vm, unsigned cpu, uint64_t va, uint8_t *buf, size_t len)
{
    while (len > 0) {
        size_t n = min_u64(len, VM_PAGE_SIZE - va % VM_PAGE_SIZE);
        uint64_t gpa;

        if (!vm->queries->translate(vm, cpu, va, &gpa) ||
            !vm->queries->read_memory(vm, gpa, buf, n))
            return false;
        va += n;
        buf += n;
        len -= n;
    }
    return true;
}

static void put_char(uint8_t c, FILE *out)
{
    if (c >= ' ' && c <= '~' && c != '\'' && c != '\\')
        fprintf(out, " '%c'", c);
    else
        fprintf(out, " '\\x%02x'", c);
}

static int64_t sign_extend(uint64_t value, unsigned size)
{
    unsigned shift = 64 - 8 * size;

    return (int64_t)(value << shift) >> shift;
}

static void put_item(const struct format *format, const uint8_t *bytes, FILE *out)
{
    uint64_t value = 0;

    for (unsigned i = format->size; i-- > 0;)
        value = value << 8 | bytes[i];
    switch (format->letter) {
    case 'd':
        fprintf(out, " %" PRId64, sign_extend(value, format->size));
        break;
    case 'u':
        fprintf(out, " %" PRIu64, value);
        break;
    case 'o':
        fprintf(out, " 0%" PRIo64, value);
        break;
    case 'c':
        put_char((uint8_t)value, out);
        break;
    default:
        fprintf(out, " 0x%0*" PRIx64, (int)format->size * 2, value);
        break;
    }
}

void monitor_memory_show(struct control_vm *vm, int cpu, const char *words, FILE *out)
{
    struct format format;
    uint64_t address;
    unsigned per_line;

    if (!parse_words(words, &format, &address)) {
        fprintf(out,
                "expected /FORMAT ADDRESS, such as /16xw 0x1000: a count, one of x d u o c, one of "
                "b h w g; at most %u bytes\n",
                MONITOR_MEMORY_MAX);
        return;
    }
    per_line = LINE_BYTES / format.size;
    for (unsigned done = 0; done < format.count;) {
        unsigned n = (unsigned)min_u64(format.count - done, per_line);
        uint8_t bytes[LINE_BYTES];
        bool got = cpu < 0
                       ? vm->queries->read_memory(vm, address, bytes, (size_t)n * format.size)
                       : read_virtual(vm, (unsigned)cpu, address, bytes, (size_t)n * format.size);

        if (!got) {
            fprintf(out, "Cannot access memory\n");
            return;
        }
        fprintf(out, "%016" PRIx64 ":", address);
        for (unsigned i = 0; i < n; i++)
            put_item(&format, bytes + (size_t)i * format.size, out);
        fputc('\n', out);
        done += n;
        address += (uint64_t)n * format.size;
    }
}
