# SPDX-License-Identifier: Apache-2.0
"""What the parts of the comparison share. docs/compare.md explains it."""
