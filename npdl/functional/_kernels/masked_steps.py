"""Masked steps of a sequence, whose numbers must not reach any product.

Zero times NaN is NaN, so a weight of zero does not leave a step out. Steps with NaN or infinities
are therefore replaced by zeros before the first product, and everything else stays as it is.
"""

from typing import NamedTuple

import numpy as np

from npdl.tree import Array

__all__ = ["Replaced", "replace_steps"]


class Replaced(NamedTuple):
    """The steps, each (batch, time), that are replaced by zeros, and their consequences."""

    # Steps of zeros, which get no gradient; `None` where the sequences are as they were.
    zeros: Array | None = None
    # Causal outputs that depend on an unmasked step that is not finite: they are NaN.
    lost: Array | None = None

    def outputs(self, y: Array) -> Array:
        """Return the outputs (batch, time, features) with NaN where they are lost."""
        return y if self.lost is None else np.where(self.lost[..., None], np.nan, y)

    def cotangent(self, g: Array) -> Array:
        """Return the gradient of the outputs without those that are lost."""
        return g if self.lost is None else np.where(self.lost[..., None], 0, g)

    def gradient(self, dx: Array) -> Array:
        """Return the gradient of the steps with zeros where they were replaced."""
        return dx if self.zeros is None else np.where(self.zeros[..., None], 0, dx)


def replace_steps(x: Array, mask: Array | None, causal: bool) -> tuple[Array, Replaced]:
    """Replace steps that are not finite by zeros, where outputs must not depend on them.

    These are masked steps, and in causal layers all steps, since earlier outputs do not depend on
    later steps. Masked steps so large that a product of two overflows are replaced too.

    Parameters
    ----------
    x : array of shape (batch, time, features)
        The sequences, which are not written to.
    mask : array of shape (batch, time), optional
        True where there is data.
    causal : bool
        Whether an output depends on its own and earlier steps only.

    Returns
    -------
    tuple
        The sequences, a copy if any step is replaced, and the steps concerned.
    """
    most = float(np.finfo(x.dtype).max) ** 0.25
    zeros = lost = None
    if mask is not None and not mask.all() and not _within(x[~mask], most):
        zeros = ~mask & ~(np.abs(x).max(axis=2) < most)
    if causal and not _within(x, np.inf):
        odd = ~np.isfinite(x).all(axis=2)
        if mask is not None:
            odd &= mask
        if odd.any():
            lost = np.logical_or.accumulate(odd, axis=1)
            if mask is not None:
                lost &= mask
            zeros = odd if zeros is None else zeros | odd
    if zeros is None:
        return x, Replaced()
    x = x.copy()
    x[zeros] = 0
    return x, Replaced(zeros, lost)


def _within(x: Array, most: float) -> bool:
    """Whether all numbers are below a bound; NaN is not."""
    return x.size == 0 or bool(x.max() < most and x.min() > -most)
