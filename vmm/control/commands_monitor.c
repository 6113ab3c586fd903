/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image_ops.h"
#include "vmm/control/disk_survey.h"
#include "vmm/control/monitor_memory.h"

/* ---- texts ----------------------------------------------------------------------------------- */

/* What an answer is printed into. */
struct text {
    FILE *out;
    char *data;
    size_t len;
};

static bool begin_text(struct text *text)
{
    text->data = NULL;
    text->out = open_memstream(&text->data, &text->len);
    return text->out != NULL;
}

static json_t *end_text(struct text *text)
{
    json_t *json = fclose(text->out) == 0 ? qmp_text(text->data) : NULL;

    free(text->data);
    return json;
}

/* ---- info ------------------------------------------------------------------------------------ */

static void show_status(struct control_vm *vm, FILE *out)
{
    enum vm_state state = vm->queries->state(vm);
    const char *name = vm_state_name(state);

    if (state == VM_PRELAUNCH || state == VM_IO_ERROR || state == VM_DEBUG)
        fprintf(out, "VM status: paused (%s)\n", name);
    else
        fprintf(out, "VM status: %s\n", name);
}

/* On the disk's thread. */
static json_t *look_at_disk(const struct vm_disk *disk, const struct block_port *port)
{
    struct block_details details;
    struct block_info info;
    struct text text;

    if (!begin_text(&text))
        return NULL;
    block_get_details(port->block, &details);
    block_get_info(port->block, &info);
    fprintf(text.out, "%s (#%s): %s (%s%s)\n", disk->device, disk->device, details.path,
            info.format, info.readonly ? ", read-only" : "");
    fprintf(text.out, "    Cache mode:       writeback%s%s\n", disk->direct ? ", direct" : "",
            disk->no_flush ? ", ignore flushes" : "");
    if (details.backing)
        fprintf(text.out, "    Backing file:     %s\n", details.backing_name);
    return end_text(&text);
}

static void return_block(struct qmp_request *request, json_t *seen)
{
    struct text text;
    json_t *part;
    size_t i;

    if (!begin_text(&text)) {
        json_decref(seen);
        qmp_fail(request, QMP_GENERIC_ERROR, "out of memory");
        return;
    }
    json_array_foreach(seen, i, part)
        fprintf(text.out, "%s%s", i > 0 ? "\n" : "", json_string_value(part));
    json_decref(seen);
    qmp_return(request, end_text(&text));
}

static const struct {
    const char *name;
    enum vm_topic topic;
    bool of_cpu; /* its thread alone can tell */
} topics[] = {
    {"registers", VM_TOPIC_REGISTERS, true},
    {"mem", VM_TOPIC_MAPPINGS, true},
    {"mtree", VM_TOPIC_MEMORY_TREE, false},
    {"irq", VM_TOPIC_INTERRUPTS, false},
};

/* False: there is no such command. */
static bool show_info(struct control_vm *vm, unsigned cpu, const char *what, FILE *out)
{
    if (strcmp(what, "status") == 0) {
        show_status(vm, out);
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(topics); i++) {
        if (strcmp(what, topics[i].name) != 0)
            continue;
        if (!vm->queries->show(vm, topics[i].topic, cpu, out))
            fprintf(out, "no guest runs\n");
        return true;
    }
    return false;
}

/* ---- the command line ------------------------------------------------------------------------ */

/* The rest of `line` after a word and blanks; NULL: it does not begin with that word. */
static const char *after_word(const char *line, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(line, word, len) != 0 ||
        (line[len] != ' ' && line[len] != '/' && line[len] != '\0'))
        return NULL;
    return line + len + strspn(line + len, " ");
}

static void show_line(struct control_vm *vm, unsigned cpu, const char *line, FILE *out)
{
    const char *info = after_word(line, "info");
    const char *virtual = after_word(line, "x");
    const char *physical = after_word(line, "xp");

    if (physical)
        monitor_memory_show(vm, -1, physical, out);
    else if (virtual)
        monitor_memory_show(vm, (int)cpu, virtual, out);
    else if (!info || !show_info(vm, cpu, info, out))
        fprintf(out,
                "unknown command: '%.64s': expected info status|block|registers|mem|mtree|irq, x "
                "or xp\n",
                line);
}

/* ---- what a CPU has to tell ------------------------------------------------------------------ */

struct look {
    struct qmp_request *request;
    unsigned cpu;
    const char *line; /* of the request */
    struct text text;
    struct cpu_question question;
};

/* Is it about what only the CPU's own thread can tell? */
static bool is_for_cpu(const char *line)
{
    const char *info = after_word(line, "info");

    for (size_t i = 0; info && i < ARRAY_SIZE(topics); i++)
        if (strcmp(info, topics[i].name) == 0)
            return topics[i].of_cpu;
    return after_word(line, "x") != NULL;
}

/* On the CPU's thread. */
static void look_at_cpu(struct cpu_question *question)
{
    struct look *look = container_of(question, struct look, question);

    show_line(vm_of(look->request), look->cpu, look->line, look->text.out);
}

static void return_look(struct cpu_question *question)
{
    struct look *look = container_of(question, struct look, question);
    struct control_vm *vm = vm_of(look->request);

    if (!question->looked)
        fprintf(look->text.out, "%s\n",
                vm->queries->state(vm) == VM_NO_GUEST ? "no guest runs" : "the CPU does not run");
    qmp_return(look->request, end_text(&look->text));
    free(look);
}

static void ask_cpu(struct qmp_request *request, unsigned cpu, const char *line)
{
    struct control_vm *vm = vm_of(request);
    struct look *look = calloc(1, sizeof(*look));

    if (!look || !begin_text(&look->text)) {
        free(look);
        qmp_fail(request, QMP_GENERIC_ERROR, "out of memory");
        return;
    }
    look->request = request;
    look->cpu = cpu;
    look->line = line;
    look->question = (struct cpu_question){.look = look_at_cpu, .answered = return_look};
    vm->queries->ask_cpu(vm, cpu, &look->question);
}

static void run_monitor(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    json_int_t cpu = qmp_integer(request, "cpu-index", 0);
    const char *line = qmp_string(request, "command-line");
    const char *info;
    struct text text;

    line += strspn(line, " ");
    info = after_word(line, "info");
    if (cpu < 0 || cpu >= (json_int_t)vm->ncpus) {
        qmp_fail(request, QMP_GENERIC_ERROR, "'cpu-index' must be from 0 to %u", vm->ncpus - 1);
    } else if (info && strcmp(info, "block") == 0) {
        disk_survey(request, look_at_disk, return_block);
    } else if (is_for_cpu(line)) {
        ask_cpu(request, (unsigned)cpu, line);
    } else if (begin_text(&text)) {
        show_line(vm, (unsigned)cpu, line, text.out);
        qmp_return(request, end_text(&text));
    } else {
        qmp_fail(request, QMP_GENERIC_ERROR, "out of memory");
    }
}

static const struct qmp_arg monitor_args[] = {{"command-line", QMP_STRING, false},
                                              {"cpu-index", QMP_INTEGER, true}};

static const struct qmp_command commands[] = {
    {"human-monitor-command", run_monitor, monitor_args, ARRAY_SIZE(monitor_args)},
};

const struct qmp_commands commands_monitor = {commands, ARRAY_SIZE(commands)};
