# SPDX-License-Identifier: Apache-2.0
"""From exec to the first KVM_RUN, and minivmm's several ways to come by an unpacked kernel."""

import os
import subprocess

from lib import guest as guests
from lib.part import metric
from lib.paths import FIRST_KVM_RUN
from lib.sides import OURS

ENTRY = metric("entry_ms", "ms", "lower", "exec to the first KVM_RUN")
TIMEOUT_S = 60


def first_run(attempt):
    """first_kvm_run stops the VMM at its first KVM_RUN and prints nanoseconds."""
    try:
        out = subprocess.run([FIRST_KVM_RUN, "--", *attempt.argv], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no KVM_RUN in {TIMEOUT_S} s") from None
    if out.returncode != 0:
        lines = [line.strip() for line in (out.stdout + out.stderr).splitlines() if line.strip()]
        # The VMM's last words first, then all that it said.
        raise RuntimeError("\n".join([": ".join(reversed(lines[-2:])), *lines[:-2]]))
    return {"entry_ms": int(out.stdout.split()[-1]) / 1e6}


def with_variants(part, everything=True):
    """All sides of a part, and minivmm's other ways to come by an unpacked kernel."""
    result = []
    for side in part.sides:
        result.append(side)
        if side.name == OURS:
            cold = os.path.join(part.kept, "kernel-cache-cold")
            result.append(side.variant("kernel cache cold", kernel_cache=cold, cache_is_cold=True))
            if everything:
                result += [side.variant("kernel cache off", kernel_cache="off"),
                           side.variant("KASLR off", kaslr="off")]
    return result


def with_devices(part):
    """minivmm, and with more devices than it has by itself."""
    variants = []
    for side in part.sides:
        if side.name == OURS:
            variants += [side, side.variant("more devices", more_devices=True),
                         side.variant("a clock", rtc="on")]
    return variants


def fill_cache(attempt):
    """What minivmm's earlier starts with this kernel would have left."""
    cache = attempt.guest.options.get("kernel_cache", "off")
    if attempt.side.name == OURS and cache != "off":
        subprocess.run([attempt.side.program, "--prepare-kernel", attempt.guest.kernel,
                        "--kernel-cache", cache], stdout=subprocess.DEVNULL, check=True)


def prepare_caches(attempt):
    """Empty the kernel cache of a side that measures with a cold one."""
    if attempt.guest.options.get("cache_is_cold"):
        guests.empty_folder(attempt.guest.options["kernel_cache"])
        os.chmod(attempt.guest.options["kernel_cache"], 0o700)
