/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/commands_monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/image_ops.h"
#include "vmm/control/commands_net.h"
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

/* NULL: out of memory. */
static json_t *end_text(struct text *text)
{
    bool whole = !ferror(text->out);
    json_t *json = fclose(text->out) == 0 && whole ? qmp_text(text->data) : NULL;

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

static void show_topic(struct control_vm *vm, enum vm_topic topic, unsigned cpu, FILE *out)
{
    if (!vm->queries->show(vm, topic, cpu, out))
        fprintf(out, "no guest runs\n");
}

/* ---- the lines that there are ---------------------------------------------------------------- */

/* What is shown of, and who can tell. */
enum subject {
    OF_VM,
    OF_DISKS, /* their threads */
    OF_CPU,   /* its thread alone */
    OF_ALL,   /* of memory or all CPUs, while none is in the guest: the CPU's thread sees to that */
};

struct line {
    struct control_vm *vm;
    unsigned cpu;
    const char *args; /* what comes after the name, without blanks around it */
};

static void show_help(const struct line *line, FILE *out);

static void show_vm_status(const struct line *line, FILE *out)
{
    show_status(line->vm, out);
}

static void show_network(const struct line *line, FILE *out)
{
    commands_net_show(line->vm, out);
}

static void set_link(const struct line *line, FILE *out)
{
    commands_net_set_link(line->vm, line->args, out);
}

static void show_registers(const struct line *line, FILE *out)
{
    show_topic(line->vm, VM_TOPIC_REGISTERS, line->cpu, out);
}

static void show_all_registers(const struct line *line, FILE *out)
{
    for (unsigned i = 0; i < line->vm->ncpus; i++)
        show_topic(line->vm, VM_TOPIC_REGISTERS, i, out);
}

static void show_mappings(const struct line *line, FILE *out)
{
    show_topic(line->vm, VM_TOPIC_MAPPINGS, line->cpu, out);
}

static void show_memory_tree(const struct line *line, FILE *out)
{
    show_topic(line->vm, VM_TOPIC_MEMORY_TREE, line->cpu, out);
}

static void show_interrupts(const struct line *line, FILE *out)
{
    show_topic(line->vm, VM_TOPIC_INTERRUPTS, line->cpu, out);
}

static void show_virtual(const struct line *line, FILE *out)
{
    monitor_memory_show(line->vm, (int)line->cpu, line->args, out);
}

static void show_physical(const struct line *line, FILE *out)
{
    monitor_memory_show(line->vm, -1, line->args, out);
}

/* Where one name begins with another one, it comes first. */
static const struct monitor_line {
    const char *name;
    const char *args; /* "": none */
    const char *help;
    enum subject subject;
    void (*show)(const struct line *line, FILE *out);
} monitor_lines[] = {
    {"help", "[NAME]", "what there is", OF_VM, show_help},
    {"info status", "", "whether the guest runs", OF_VM, show_vm_status},
    {"info block", "", "disks and their image files", OF_DISKS, NULL},
    {"info network", "", "network cards, and what went through them", OF_VM, show_network},
    {"info registers -a", "", "registers of all CPUs, at the same moment", OF_ALL,
     show_all_registers},
    {"info registers", "", "registers of the CPU", OF_CPU, show_registers},
    {"info mem", "", "what virtual memory the CPU has mapped", OF_ALL, show_mappings},
    {"info mtree", "", "what lies where in physical memory and among ports", OF_VM,
     show_memory_tree},
    {"info irq", "", "interrupts of devices, and where they lead", OF_VM, show_interrupts},
    {"set_link", "NAME on|off", "the link of a network card", OF_VM, set_link},
    {"xp", "[/FORMAT] ADDRESS", "physical memory", OF_ALL, show_physical},
    {"x", "[/FORMAT] ADDRESS", "virtual memory, as the CPU sees it", OF_ALL, show_virtual},
};

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* All lines, or those whose names begin with the words. */
static void show_help(const struct line *line, FILE *out)
{
    bool any = false;

    for (size_t i = 0; i < ARRAY_SIZE(monitor_lines); i++) {
        const struct monitor_line *each = &monitor_lines[i];

        if (!begins_with(each->name, line->args))
            continue;
        any = true;
        fprintf(out, "%s%s%s -- %s\n", each->name, each->args[0] ? " " : "", each->args,
                each->help);
    }
    if (!any)
        fprintf(out, "unknown command: '%.64s': `help` lists what there is\n", line->args);
}

/* ---- the command line ------------------------------------------------------------------------ */

/* One blank between words, and none around them. */
static void tidy(char *text)
{
    char *to = text;

    for (const char *from = text; *from; from++)
        if (*from != ' ' && *from != '\t')
            *to++ = *from;
        else if (to > text && to[-1] != ' ')
            *to++ = ' ';
    if (to > text && to[-1] == ' ')
        to--;
    *to = '\0';
}

/* What comes after the name; NULL: the text is about something else. `x/4xw 0` is fine. */
static const char *args_of(const char *text, const struct monitor_line *each)
{
    const char *rest = text + strlen(each->name);

    if (!begins_with(text, each->name) || (*rest != '\0' && *rest != ' ' && *rest != '/'))
        return NULL;
    if (*rest == ' ')
        rest++;
    return *rest == '\0' || each->args[0] ? rest : NULL;
}

static const struct monitor_line *find_line(const char *text, const char **ret_args)
{
    for (size_t i = 0; i < ARRAY_SIZE(monitor_lines); i++) {
        *ret_args = args_of(text, &monitor_lines[i]);
        if (*ret_args)
            return &monitor_lines[i];
    }
    return NULL;
}

static void show_unknown(const char *text, FILE *out)
{
    const struct line all_of_info = {.args = "info"};

    if (strcmp(text, "info") == 0)
        show_help(&all_of_info, out);
    else
        fprintf(out, "unknown command: '%.64s': `help` lists what there is\n", text);
}

/* ---- what CPUs have to tell ------------------------------------------------------------------ */

struct look {
    struct qmp_request *request;
    const struct monitor_line *what;
    struct line line;
    char *words; /* owner of line.args */
    struct text text;
    struct cpu_question question;
};

/* On the CPU's thread. */
static void look_at_cpu(struct cpu_question *question)
{
    struct look *look = container_of(question, struct look, question);

    look->what->show(&look->line, look->text.out);
}

static void return_look(struct cpu_question *question)
{
    struct look *look = container_of(question, struct look, question);
    struct control_vm *vm = look->line.vm;
    enum vm_state state = vm->queries->state(vm);
    bool gone = state == VM_NO_GUEST || state == VM_STOPPING;

    if (!question->looked)
        fprintf(look->text.out, "%s\n", gone ? "no guest runs" : "the CPU does not run");
    qmp_return(look->request, end_text(&look->text));
    free(look->words);
    free(look);
}

static void ask_cpu(struct qmp_request *request, const struct monitor_line *what,
                    const struct line *line)
{
    struct look *look = calloc(1, sizeof(*look));

    if (look)
        look->words = strdup(line->args);
    if (!look || !look->words || !begin_text(&look->text)) {
        if (look)
            free(look->words);
        free(look);
        qmp_fail(request, QMP_GENERIC_ERROR, "out of memory");
        return;
    }
    look->request = request;
    look->what = what;
    look->line = *line;
    look->line.args = look->words;
    look->question = (struct cpu_question){
        .look = look_at_cpu, .answered = return_look, .of_all = what->subject == OF_ALL};
    line->vm->queries->ask_cpu(line->vm, line->cpu, &look->question);
}

/* `what` is NULL if the words are about nothing that there is. */
static void show_now(struct qmp_request *request, const struct monitor_line *what,
                     const struct line *line, const char *words)
{
    struct text text;

    if (!begin_text(&text)) {
        qmp_fail(request, QMP_GENERIC_ERROR, "out of memory");
        return;
    }
    if (what)
        what->show(line, text.out);
    else
        show_unknown(words, text.out);
    qmp_return(request, end_text(&text));
}

static void run_line(struct qmp_request *request, unsigned cpu, const char *words)
{
    struct line line = {.vm = vm_of(request), .cpu = cpu};
    const struct monitor_line *what = find_line(words, &line.args);

    if (what && what->subject == OF_DISKS)
        disk_survey(request, look_at_disk, return_block);
    else if (what && what->subject != OF_VM)
        ask_cpu(request, what, &line);
    else
        show_now(request, what, &line, words);
}

static void run_monitor(struct qmp_request *request)
{
    struct control_vm *vm = vm_of(request);
    json_int_t cpu = qmp_integer(request, "cpu-index", 0);
    char *words;

    if (cpu < 0 || cpu >= (json_int_t)vm->ncpus) {
        qmp_fail(request, QMP_GENERIC_ERROR, "'cpu-index' must be from 0 to %u", vm->ncpus - 1);
        return;
    }
    words = strdup(qmp_string(request, "command-line"));
    if (!words) {
        qmp_fail(request, QMP_GENERIC_ERROR, "out of memory");
        return;
    }
    tidy(words);
    run_line(request, (unsigned)cpu, words);
    free(words);
}

static const struct qmp_arg monitor_args[] = {{"command-line", QMP_STRING, false},
                                              {"cpu-index", QMP_INTEGER, true}};

static const struct qmp_command commands[] = {
    {"human-monitor-command", run_monitor, monitor_args, ARRAY_SIZE(monitor_args)},
};

const struct qmp_commands commands_monitor = {commands, ARRAY_SIZE(commands)};
