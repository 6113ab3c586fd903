/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/monitor.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "vmm/gdb/session_data.h"
#include "vmm/gdb/session_state.h"

#define DUMP_MAX 1024u
#define DUMP_LINE 16u
#define DUMP_DEFAULT 64u

/* Words of a command: its name and up to two arguments. */
#define WORDS_MAX 3u

struct words {
    const char *word[WORDS_MAX]; /* "" for one that is missing */
};

/* ---- registers ------------------------------------------------------------------------------- */

static void print_register(FILE *out, const struct gdb_registers *registers,
                           const struct gdb_register *reg)
{
    const uint8_t *bytes = (const uint8_t *)registers + reg->offset;

    fprintf(out, "%-10s 0x", reg->name);
    for (unsigned i = reg->bits / 8; i-- > 0;)
        fprintf(out, "%02x", bytes[i]);
    fputc('\n', out);
}

static void print_registers(struct gdb_session *session, const struct words *words, FILE *out)
{
    const struct gdb_target_ops *ops = session->target->ops;
    bool avx = ops->has_avx(session->target);
    const struct gdb_register *only = gdb_register_find(words->word[1], avx);
    struct gdb_registers registers = {.rip = 0};

    if (*words->word[1] && !only) {
        fprintf(out, "%s: no such register\n", words->word[1]);
        return;
    }
    if (ops->get_registers(session->target, session->cpu, &registers) < 0) {
        fputs("KVM does not give the registers\n", out);
        return;
    }
    for (size_t i = 0; i < gdb_register_count(avx); i++)
        if (!only || gdb_register_at(i) == only)
            print_register(out, &registers, gdb_register_at(i));
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void print_line(FILE *out, uint64_t address, const uint8_t *bytes, size_t len)
{
    fprintf(out, "%016llx ", (unsigned long long)address);
    for (size_t i = 0; i < len; i++)
        fprintf(out, " %02x", bytes[i]);
    fprintf(out, "%*s", (int)(3 * (DUMP_LINE - len) + 2), "");
    for (size_t i = 0; i < len; i++)
        fputc(bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '.', out);
    fputc('\n', out);
}

static bool parse_number(const char *word, uint64_t *ret_number)
{
    char *end;

    errno = 0;
    *ret_number = strtoull(word, &end, 0);
    return errno == 0 && isdigit((unsigned char)*word) && *end == '\0';
}

static void print_physical(struct gdb_session *session, const struct words *words, FILE *out)
{
    uint8_t bytes[DUMP_MAX];
    uint64_t address, len = DUMP_DEFAULT;
    size_t done;

    if (!parse_number(words->word[1], &address) ||
        (*words->word[2] && !parse_number(words->word[2], &len)) || len > DUMP_MAX) {
        fprintf(out, "expected: xp ADDRESS [BYTES], up to %u\n", DUMP_MAX);
        return;
    }
    done = gdb_read(session, true, address, bytes, len);
    for (size_t i = 0; i < done; i += DUMP_LINE)
        print_line(out, address + i, bytes + i, min_u64(DUMP_LINE, done - i));
    if (done < len)
        fprintf(out, "%016llx: not RAM\n", (unsigned long long)(address + done));
}

static void print_translation(struct gdb_session *session, const struct words *words, FILE *out)
{
    uint64_t va, gpa, len;

    if (!parse_number(words->word[1], &va))
        fputs("expected: v2p ADDRESS\n", out);
    else if (session->target->ops->translate(session->target, session->cpu, va, &gpa, &len) < 0)
        fputs("not mapped\n", out);
    else
        fprintf(out, "0x%llx\n", (unsigned long long)gpa);
}

/* ---- switches -------------------------------------------------------------------------------- */

static void use_switch(const struct words *words, FILE *out, bool *value)
{
    if (strcmp(words->word[1], "on") == 0)
        *value = true;
    else if (strcmp(words->word[1], "off") == 0)
        *value = false;
    else if (*words->word[1])
        fputs("expected: on or off\n", out);
    fprintf(out, "%s is %s\n", words->word[0], *value ? "on" : "off");
}

static void switch_physical(struct gdb_session *session, const struct words *words, FILE *out)
{
    use_switch(words, out, &session->physical);
}

static void switch_interrupts(struct gdb_session *session, const struct words *words, FILE *out)
{
    bool taken = !session->masks_interrupts;

    use_switch(words, out, &taken);
    session->masks_interrupts = !taken;
}

/* ---- the table ------------------------------------------------------------------------------- */

static void print_help(struct gdb_session *session, const struct words *words, FILE *out);

static const struct command {
    const char *name;
    const char *args;
    const char *help;
    void (*run)(struct gdb_session *session, const struct words *words, FILE *out);
} commands[] = {
    {"help", "", "this list", print_help},
    {"reg", "[NAME]", "all registers of the current vCPU, or one", print_registers},
    {"xp", "ADDRESS [BYTES]", "physical memory", print_physical},
    {"v2p", "ADDRESS", "the physical address of a virtual one", print_translation},
    {"phys", "[on|off]", "whether gdb's own commands mean physical addresses", switch_physical},
    {"step-irqs", "[on|off]", "whether a step may lead into an interrupt handler",
     switch_interrupts},
};

static void print_help(struct gdb_session *session, const struct words *words, FILE *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        fprintf(out, "%-10s %-16s %s\n", commands[i].name, commands[i].args, commands[i].help);
}

static void run_command(struct gdb_session *session, const struct words *words, FILE *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i].name, words->word[0]) == 0) {
            commands[i].run(session, words, out);
            return;
        }
    }
    fprintf(out, "%s: no such command; `monitor help` lists them\n", words->word[0]);
}

void gdb_monitor(struct gdb_session *session, const char *command)
{
    struct words words = {.word = {"", "", ""}};
    char *copy = strdup(command), *text = NULL, *rest = NULL;
    FILE *out = NULL;
    size_t len;

    if (copy)
        out = open_memstream(&text, &len);
    if (!out) {
        free(copy);
        gdb_reply_error(&session->reply, -ENOMEM);
        return;
    }
    for (size_t i = 0; i < WORDS_MAX; i++) {
        const char *word = strtok_r(i == 0 ? copy : NULL, " ", &rest);

        if (!word)
            break;
        words.word[i] = word;
    }
    run_command(session, *words.word[0] ? &words : &(struct words){.word = {"help", "", ""}}, out);
    if (fclose(out) == 0)
        gdb_reply_hex(&session->reply, text, len);
    else
        gdb_reply_error(&session->reply, -ENOMEM);
    free(text);
    free(copy);
}
