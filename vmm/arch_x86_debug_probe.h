/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host's KVM does for a debugger, found by doing: a guest of a few bytes runs into an
 * int3, a breakpoint and a watchpoint. Some KVM without hardware of its own, or with an emulated
 * one, take all of them and stop at none.
 */
#ifndef MINIVMM_ARCH_X86_DEBUG_PROBE_H
#define MINIVMM_ARCH_X86_DEBUG_PROBE_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/kvm.h"

struct arch_debug_abilities {
    bool software; /* it stops at int3 */
    bool hardware; /* at an instruction with a breakpoint in a debug register */
    bool watch;    /* behind an access to data with one */
    bool masks;    /* it keeps interrupts from steps */
};

/* 0, or a negative errno with *err filled: KVM cannot debug guests at all. */
int arch_debug_probe(const struct kvm *kvm, struct arch_debug_abilities *ret_abilities,
                     struct err *err) MUST_CHECK;

#endif
