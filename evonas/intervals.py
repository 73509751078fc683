"""Confidence intervals of a mean."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev

Estimate = tuple[float, tuple[float, float] | None]  # mean, and its 95 % interval; None of a single value


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of n values, and its 95 % interval: mean +- t(0.975, n - 1) * s / sqrt(n), s their sample deviation."""
    from scipy.stats import t  # slow to import

    mean, count = fmean(values), len(values)
    if count == 1:
        return mean, None
    half = float(t.ppf(0.975, count - 1)) * stdev(values) / sqrt(count)
    return mean, (mean - half, mean + half)
