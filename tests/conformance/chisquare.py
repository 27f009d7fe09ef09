"""Whether counts can have come from shares, by chi-square (Wilson and Hilferty's approximation)."""

from collections.abc import Hashable, Mapping
from statistics import NormalDist
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

ENOUGH = 5.0
"""Kinds that are expected less often are counted together."""


def unlikely(counts: Mapping[K, int], shares: Mapping[K, float], level: float) -> bool:
    """Whether counts as far off as these come with a chance below ``level``."""
    total = sum(counts.values())
    whole = sum(shares.values())
    rare_wanted = rare_came = 0.0
    cells: list[tuple[float, float]] = []
    for kind, share in shares.items():
        expected = total * share / whole
        if expected < ENOUGH:
            rare_wanted += expected
            rare_came += counts.get(kind, 0)
        else:
            cells.append((counts.get(kind, 0), expected))
    if rare_wanted >= ENOUGH or (rare_wanted and rare_came > 30):
        cells.append((rare_came, max(rare_wanted, 1.0)))
    if len(cells) < 2:
        return False
    statistic = sum((came - expected) ** 2 / expected for came, expected in cells)
    return statistic > limit(len(cells) - 1, level)


def limit(freedom: int, level: float) -> float:
    """The chi-square that is exceeded with a chance of ``level``."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(1 - level) * part**0.5) ** 3)
