# SPDX-License-Identifier: Apache-2.0
"""Where things are in this tree."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMPARE = os.path.join(ROOT, "compare")
ADAPTERS = os.path.join(COMPARE, "adapters")
GUEST = os.path.join(ROOT, "build/guest")
RESULTS = os.path.join(ROOT, "build/compare")
RUN = os.path.join(RESULTS, "run")
# What lasts as long as a run, in its folder.
SCRATCH = "scratch"
MINIVMM = os.path.join(ROOT, "build/release/minivmm")
FIRST_KVM_RUN = os.path.join(ROOT, "build/release/tests/bench/first_kvm_run")
