"""Numbers as a digest sees them: rounded so far that threads and processors do not matter."""

import numpy as np
from jaxtyping import Float64

DIGITS = 6
CANCELLED = 1e-10  # of the largest value: what rounding leaves of an exact 0

_UNIT_MIN = -330
_UNITS = 10.0 ** np.arange(float(_UNIT_MIN), 309.0)


def significant(values: Float64[np.ndarray, "rows values"]) -> Float64[np.ndarray, "rows 3 values"]:
    """Each row rounded to 6 significant digits as whole digits, exponents and kinds.

    Kinds are 0 for numbers, 1 for inf, 2 for -inf, 3 for NaN: there is one NaN, one zero, and no sign of zero. A value
    that is nothing beside the largest of its row is 0. `values` is overwritten.
    """
    rounded = np.zeros((len(values), 3, values.shape[1]))
    whole, exponent, kind = (rounded[:, part] for part in range(3))
    finite = np.isfinite(values)
    if not finite.all():
        kind[:] = np.where(np.isnan(values), 3.0, np.where(values > 0, 1.0, 2.0))
        kind[finite] = 0.0
        values[~finite] = 0.0
    size = np.abs(values)
    nothing = size <= CANCELLED * size.max(axis=1, keepdims=True)
    np.copyto(size, 1.0, where=nothing)
    np.floor(np.log10(size, out=size), out=exponent)
    with np.errstate(all="ignore"):
        values /= _UNITS.take(exponent.astype(np.intp) - (_UNIT_MIN + DIGITS - 1))
        np.rint(values, out=whole)
    np.copyto(whole, 0.0, where=nothing)
    np.abs(whole, out=size)
    if size.max() >= 10.0**DIGITS:
        carried = size == 10.0**DIGITS
        whole[carried] /= 10
        exponent[carried] += 1
    whole += 0.0
    return rounded
