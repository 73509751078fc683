"""Means of a sample, with its standard deviation or with a confidence interval."""

from collections.abc import Sequence
from math import isfinite, sqrt
from statistics import fmean, stdev

from evonas.units import Figure

Estimate = tuple[float, tuple[float, float] | None]  # mean, and its 95 % interval; None of a single value


def spread(values: Sequence[float]) -> Figure:
    """The mean of a sample, and its standard deviation; None of a single value, and of infinite ones."""
    return fmean(values), stdev(values) if len(values) > 1 and all(map(isfinite, values)) else None


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of n values, and its 95 % interval: mean +- t(0.975, n - 1) * s / sqrt(n), s their sample deviation."""
    from scipy.stats import t  # slow to import

    mean, count = fmean(values), len(values)
    if count == 1 or not all(map(isfinite, values)):
        return mean, None
    half = float(t.ppf(0.975, count - 1)) * stdev(values) / sqrt(count)
    return mean, (mean - half, mean + half)
