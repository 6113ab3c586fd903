/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/ending_rules.h"

static enum ending_step first_step(enum ending_phase phase)
{
    switch (phase) {
    case ENDING_SET_UP:
        return ENDING_CANCEL;
    case ENDING_GUEST:
        return ENDING_ASK;
    case ENDING_CLOSING:
        return ENDING_WAIT;
    }
    return ENDING_WAIT;
}

enum ending_step ending_rules_signal(struct ending_rules *rules, uint64_t now_ns)
{
    if (!rules->asked) {
        rules->asked = true;
        rules->asked_ns = now_ns;
        return first_step(rules->phase);
    }
    if (rules->phase == ENDING_SET_UP || now_ns - rules->asked_ns < ENDING_PAUSE_NS)
        return ENDING_NOTHING;
    return ending_rules_insist(rules);
}

enum ending_step ending_rules_insist(struct ending_rules *rules)
{
    if (rules->insisted)
        return ENDING_NOTHING;
    rules->asked = true;
    rules->insisted = true;
    return ENDING_INSIST;
}

bool ending_rules_begin_guest(struct ending_rules *rules)
{
    if (rules->asked)
        return false;
    rules->phase = ENDING_GUEST;
    return true;
}
