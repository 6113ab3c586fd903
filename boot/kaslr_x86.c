/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/kaslr_x86.h"

#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"

/* KERNEL_IMAGE_SIZE of a kernel with CONFIG_RANDOMIZE_BASE. */
#define KERNEL_IMAGE_SIZE GIB

static bool is_word(const char *word, size_t len, const char *name)
{
    return len == strlen(name) && memcmp(word, name, len) == 0;
}

static bool is_setting(const char *word, size_t len, const char *name)
{
    return len >= strlen(name) && memcmp(word, name, strlen(name)) == 0;
}

/* What memory the stub leaves alone, and the encryption of memory. */
static bool is_for_stub(const char *word, size_t len)
{
    static const char names[][16] = {"mem=", "memmap=", "hugepages=", "mem_encrypt="};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (is_setting(word, len, names[i]))
            return true;
    return false;
}

/* The stub knows no quotes, takes control characters for spaces, and does not stop at "--". */
enum kaslr kaslr_of_cmdline(const char *cmdline)
{
    enum kaslr found = KASLR_ON;
    size_t len;

    for (const char *word = cmdline; *word; word += len) {
        while (*word && (unsigned char)*word <= ' ')
            word++;
        for (len = 0; (unsigned char)word[len] > ' '; len++)
            ;
        if (is_for_stub(word, len))
            return KASLR_STUB;
        if (is_word(word, len, "nokaslr"))
            found = KASLR_OFF;
    }
    return found;
}

uint64_t kaslr_choose_delta(uint64_t link_gpa, uint64_t len, uint64_t align, uint64_t random)
{
    uint64_t room;

    if (link_gpa > KERNEL_IMAGE_SIZE || len > KERNEL_IMAGE_SIZE - link_gpa)
        return 0;
    room = KERNEL_IMAGE_SIZE - link_gpa - len;
    return random % (room / align + 1) * align;
}
