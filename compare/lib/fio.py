# SPDX-License-Identifier: Apache-2.0
"""fio's command line for a pattern of requests, and what its terse output (version 3) says."""

import dataclasses

# Fields of the output: what all lines begin with, then 41 of reads, then as many of writes.
ERROR = 4
READS, WRITES = 5, 46
TOTAL_KIB, RUNTIME_MS, PERCENTILES, LATENCY_MEAN_US = 0, 3, 12, 33
NPERCENTILES = 20


@dataclasses.dataclass(frozen=True)
class Pattern:
    """`rw` as fio calls it. `align`: where requests may begin, where that is not `size`."""
    rw: str
    size: int = 4096
    depth: int = 1
    align: int = 0

    @property
    def writes(self):
        return self.rw.endswith("write")

    def command(self, disk, seconds, *more):
        """Until `seconds` have passed; those with an alignment at most once through the disk."""
        words = ["$FIO", "--name=job", f"--filename={disk}", "--ioengine=io_uring", "--direct=1",
                 f"--rw={self.rw}", f"--bs={self.size}", f"--iodepth={self.depth}",
                 f"--runtime={seconds}", "--minimal", "--terse-version=3",
                 "--clocksource=clock_gettime", "--lat_percentiles=1",
                 "--disk_util=0", *more]
        words.append(f"--blockalign={self.align}" if self.align else "--time_based")
        return (f'if [ -n "{disk}" ]; then {" ".join(words)}; '
                'else echo "the guest found no disk"; false; fi')


def terse_line(output):
    lines = [line for line in output.splitlines() if line.startswith("3;")]
    if len(lines) != 1:
        raise RuntimeError(f"no result of fio: {output[-400:]}")
    fields = lines[0].split(";")
    if fields[ERROR] != "0":
        raise RuntimeError(f"fio: error {fields[ERROR]}")
    return fields


def percentile(fields, wanted):
    for field in fields:
        name, _, value = field.partition("%=")
        if float(name) == wanted:
            return float(value)
    raise RuntimeError(f"fio: no percentile {wanted}")


def parse(output, pattern):
    """{"requests", "seconds", "median_us", "mean_us", "p99_us"} of the pattern's requests."""
    fields = terse_line(output)[WRITES if pattern.writes else READS:]
    requests = int(fields[TOTAL_KIB]) * 1024 / pattern.size
    if not requests:
        raise RuntimeError("fio: not a single request")
    percentiles = fields[PERCENTILES:PERCENTILES + NPERCENTILES]
    return {"requests": requests, "seconds": int(fields[RUNTIME_MS]) / 1e3,
            "median_us": percentile(percentiles, 50), "mean_us": float(fields[LATENCY_MEAN_US]),
            "p99_us": percentile(percentiles, 99)}
