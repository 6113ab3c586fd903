/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/refusal_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Which line is read, for what is wrong with it. */
static char case_path[128];
static unsigned case_line;

static void require(bool ok, const char *expected)
{
    if (ok)
        return;
    fprintf(stderr, "%s:%u: expected %s\n", case_path, case_line, expected);
    exit(EXIT_FAILURE);
}

/* Cut the text up to the next ` | ` off *rest, without blanks at its ends; NULL after the last. */
static char *cut_text(char **rest)
{
    char *text = *rest, *bar, *end;

    if (!text)
        return NULL;
    bar = strstr(text, " | ");
    end = bar ? bar : text + strlen(text);
    *rest = bar ? bar + 3 : NULL;
    while (end > text && end[-1] == ' ')
        end--;
    *end = '\0';
    return text + strspn(text, " ");
}

static void parse_args(char *text, struct refusal *refusal)
{
    char *rest;
    unsigned n = 0;

    for (char *arg = strtok_r(text, " ", &rest); arg; arg = strtok_r(NULL, " ", &rest)) {
        require(n < VM_ARGS_MAX - 1, "fewer arguments");
        refusal->args[n++] = strcmp(arg, "\"\"") == 0 ? "" : arg;
    }
}

/* Keeps parts of `line`. */
static void parse_line(char *line, struct refusal *refusal)
{
    char *rest = line, *start = cut_text(&rest), *text;
    unsigned nsays = 0;

    refusal->code = (int)strtol(start, &start, 10);
    require(refusal->code > 0, "an exit code first");
    start += strspn(start, " ");
    if (*start == '=') {
        refusal->args[0] = "--config";
        refusal->args[1] = "config.json";
        refusal->config = start + 1 + strspn(start + 1, " ");
    } else {
        parse_args(start, refusal);
    }
    while ((text = cut_text(&rest)) != NULL) {
        require(nsays < REFUSAL_TEXTS_MAX && *text, "one to four texts after ` | `");
        refusal->says[nsays++] = text;
    }
    require(nsays > 0, "a text after ` | `");
}

static struct refusal *add_refusal(struct refusal_cases *cases)
{
    size_t size = sizeof(cases->list[0]);

    cases->list = realloc(cases->list, (size_t)(cases->n + 1) * size);
    require(cases->list != NULL, "memory");
    return memset(&cases->list[cases->n++], 0, size);
}

void refusal_cases_read(struct refusal_cases *cases, const char *name)
{
    char *rest, *line;

    snprintf(case_path, sizeof(case_path), "tests/guest/cases/%s.cases", name);
    case_line = 0;
    *cases = (struct refusal_cases){.text = vm_read_source(case_path)};
    rest = cases->text;
    while ((line = strsep(&rest, "\n")) != NULL) {
        case_line++;
        if (line[0] != '#' && line[0])
            parse_line(line, add_refusal(cases));
    }
    require(cases->n > 0, "a case");
}
