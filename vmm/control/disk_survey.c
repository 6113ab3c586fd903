/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/disk_survey.h"

#include <stdlib.h>

struct survey;

struct part {
    struct survey *survey;
    struct vm_disk disk;
    struct disk_question question;
    json_t *seen; /* NULL: there is no memory */
};

struct survey {
    struct qmp_request *request;
    json_t *(*look)(const struct vm_disk *disk, const struct block_port *port);
    void (*finish)(struct qmp_request *request, json_t *seen);
    unsigned nparts;
    unsigned nopen;
    struct part parts[];
};

/* On the disk's thread. */
static void look(struct disk_question *question, const struct block_port *port)
{
    struct part *part = container_of(question, struct part, question);

    part->seen = part->survey->look(&part->disk, port);
}

static void finish(struct survey *survey)
{
    json_t *seen = json_array();

    for (unsigned i = 0; i < survey->nparts; i++)
        json_array_append_new(seen, survey->parts[i].seen);
    survey->finish(survey->request, seen);
    free(survey);
}

static void answered(struct disk_question *question)
{
    struct survey *survey = container_of(question, struct part, question)->survey;

    if (--survey->nopen == 0)
        finish(survey);
}

void disk_survey(struct qmp_request *request,
                 json_t *(*look_at)(const struct vm_disk *disk, const struct block_port *port),
                 void (*finish_with)(struct qmp_request *request, json_t *seen))
{
    struct control_vm *vm = vm_of(request);
    struct survey *survey = calloc(1, sizeof(*survey) + vm->ndisks * sizeof(survey->parts[0]));

    if (!survey) {
        qmp_fail(request, QMP_GENERIC_ERROR, "out of memory");
        return;
    }
    *survey = (struct survey){
        .request = request,
        .look = look_at,
        .finish = finish_with,
        .nparts = vm->ndisks,
        .nopen = vm->ndisks,
    };
    if (vm->ndisks == 0)
        finish(survey);
    for (unsigned i = 0, n = vm->ndisks; i < n; i++) {
        struct part *part = &survey->parts[i];

        part->survey = survey;
        part->question = (struct disk_question){.look = look, .answered = answered};
        vm->queries->get_disk(vm, i, &part->disk);
        vm->queries->ask_disk(vm, i, &part->question);
    }
}
