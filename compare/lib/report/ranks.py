# SPDX-License-Identifier: Apache-2.0
"""The rank-sum test of Wilcoxon, Mann and Whitney: are two lists of values from one source?"""

import functools
import math
import statistics

# More values than this are close enough to a normal distribution.
EXACT_MAX = 24


def doubled_ranks(values):
    """Twice the rank of each value, 2, 4, 6, …; equal values share the mean of their ranks."""
    ordered = sorted(values)
    first, last = {}, {}
    for at, value in enumerate(ordered, 1):
        first.setdefault(value, at)
        last[value] = at
    return [first[value] + last[value] for value in values]


@functools.lru_cache(maxsize=256)
def sums_of(ranks, count):
    """In how many ways `count` of the ranks have each sum: {sum: ways}."""
    ways = [{0: 1}] + [{} for _ in range(count)]
    for rank in ranks:
        for chosen in range(count - 1, -1, -1):
            for total, number in ways[chosen].items():
                more = ways[chosen + 1]
                more[total + rank] = more.get(total + rank, 0) + number
    return ways[count]


def exact(ranks, count, middle, distance):
    sums = sums_of(tuple(sorted(ranks)), count)
    far = sum(ways for total, ways in sums.items() if abs(total - middle) >= distance)
    return far / sum(sums.values())


def approximate(ranks, count, distance):
    everyone = len(ranks)
    mean = sum(ranks) / everyone
    variance = (count * (everyone - count) / (everyone * (everyone - 1)) *
                sum((rank - mean) ** 2 for rank in ranks))
    # A sum of doubled ranks goes in steps of 2, or of 1 where values are equal.
    z = max(distance - 1, 0) / math.sqrt(variance)
    return 2 * (1 - statistics.NormalDist().cdf(z))


def chance(one, other):
    """How often chance alone would put two such lists this far apart, or farther: 0 to 1."""
    ranks = doubled_ranks([*one, *other])
    if len(set(ranks)) < 2:
        return 1.0
    middle = len(one) * (len(ranks) + 1)
    distance = abs(sum(ranks[:len(one)]) - middle)
    if len(ranks) <= EXACT_MAX:
        return exact(ranks, len(one), middle, distance)
    return approximate(ranks, len(one), distance)
