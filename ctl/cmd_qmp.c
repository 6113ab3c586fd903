/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl NAME qmp: any command of QMP.
 */
#include "ctl/answer.h"
#include "ctl/command.h"
#include "ctl/message.h"
#include "ctl/target.h"

static int run(const struct args *args)
{
    const char *text = args->noperands > 1 ? args->operands[1] : NULL;
    json_error_t error;
    json_t *arguments = text ? json_loads(text, 0, &error) : NULL;
    struct link *link;
    json_t *value = NULL;
    struct err err;
    int r;

    if (text && !arguments)
        return ctl_usage("%s: expected arguments in JSON: %s", text, error.text);
    if (text && !json_is_object(arguments)) {
        json_decref(arguments);
        return ctl_usage("%s: expected an object in JSON", text);
    }
    r = target_open(args->target, args->timeout_ms ? args->timeout_ms : WORK_MS, &link, &err);
    if (r < 0) {
        json_decref(arguments);
        return ctl_fail(&err);
    }
    r = link_ask(link, args->operands[0], arguments, &value, &err);
    link_close(link);
    if (r < 0) {
        err_prefix(&err, "%s", args->target);
        return ctl_fail(&err);
    }
    answer_print(value, stdout);
    json_decref(value);
    return CTL_OK;
}

const struct command command_qmp = {
    .name = "qmp",
    .run = run,
    .min = 1,
    .max = 2,
    .synopsis = "COMMAND [JSON]",
    .help = "any command of QMP, with its arguments; prints what it returns",
};
