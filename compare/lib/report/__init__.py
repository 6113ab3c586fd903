# SPDX-License-Identifier: Apache-2.0
"""compare/report: from the raw results of a run to a page, its Markdown twin, and differences.

load reads a run folder into what model describes, beside reads what block-bench and img-bench
write; figures makes medians and ratios; charts has gnuplot draw them; content puts a document
together, which page and markdown write; raw keeps the samples beside it; difference compares two
runs by the test in ranks.
"""
