"""Wilson's interval of a proportion, for the tables of every layer."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["score_interval", "wilson"]


def wilson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927). Covers well also at 0 and 1, unlike the normal one.

    Args:
        successes: between 0 and trials. trials: at least 1. level: of confidence, in (0, 1).
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"need 0 <= successes <= trials and trials >= 1, got {successes} and {trials}")
    return score_interval(successes / trials, trials, NormalDist().inv_cdf(0.5 + level / 2))


def score_interval(p: float, n: float, z: float) -> tuple[float, float]:
    """The same for a share p of n trials, n perhaps an effective number, at a quantile z."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if p == 0 else centre - half), (1.0 if p == 1 else centre + half)
