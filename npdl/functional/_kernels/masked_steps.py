"""Masked steps of a sequence; their values must not reach any matrix product.

Zero times NaN is NaN, so a weight of zero does not exclude a step. Steps with NaN or infinities are
therefore replaced by zeros before the first matrix product. All other steps stay unchanged.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from npdl.tree import Array

__all__ = ["Replaced", "replace_steps"]


class Replaced(NamedTuple):
    """Masks (batch, time) of the replaced steps and of the outputs that depend on them."""

    # Steps replaced by zeros; their gradient is zero. `None` if all steps are unchanged.
    zeros: Array | None = None
    # Outputs that depend on an unmasked non-finite step, and not on all steps; they are NaN.
    lost: Array | None = None

    def outputs(self, y: Array) -> Array:
        """Return the outputs (batch, time, ...) with NaN at lost steps."""
        return y if self.lost is None else np.where(_like(self.lost, y), np.nan, y)

    def cotangent(self, g: Array) -> Array:
        """Return the gradient of the outputs with zeros at lost steps."""
        return g if self.lost is None else np.where(_like(self.lost, g), 0, g)

    def gradient(self, dx: Array) -> Array:
        """Return the gradient of the sequences with zeros at replaced steps."""
        return dx if self.zeros is None else np.where(_like(self.zeros, dx), 0, dx)


def _like(steps: Array, array: Array) -> Array:
    """Return a mask (batch, time) with as many axes as an array (batch, time, ...)."""
    return steps.reshape(steps.shape + (1,) * (array.ndim - 2))


_UNCHANGED = Replaced()


def replace_steps(
    x: Array, mask: Array | None, attended: Callable[[], Array] | None = None
) -> tuple[Array, Replaced]:
    """Replace non-finite steps by zeros if outputs must not depend on them.

    These steps are the masked ones; if outputs depend on some steps only, all steps. Masked steps
    are also replaced if a product of two values would overflow.

    Parameters
    ----------
    x : array of shape (batch, time, features)
        The sequences; they are not modified.
    mask : array of shape (batch, time), optional
        True at steps with data.
    attended : callable, optional
        Returns the steps that each output depends on, if these are not all unmasked ones: a mask
        that broadcasts to (batch, heads, outputs, time).

    Returns
    -------
    tuple
        The sequences, a copy if any step is replaced, and the masks of replaced steps.
    """
    zeros = lost = None
    if mask is not None and not mask.all():
        most = float(np.finfo(x.dtype).max) ** 0.25
        if not _within(x[~mask], most):
            zeros = ~mask & ~(np.abs(x).max(axis=2) < most)
    if attended is not None and not _within(x, np.inf):
        odd: Array = np.any(~np.isfinite(x), axis=2)
        if mask is not None:
            odd &= mask
        if odd.any():
            lost = np.any(attended() & odd[:, None, None], axis=(1, 3))
            zeros = odd if zeros is None else zeros | odd
    if zeros is None:
        return x, _UNCHANGED
    x = x.copy()
    x[zeros] = 0
    return x, Replaced(zeros, lost)


def _within(x: Array, most: float) -> bool:
    """Whether all magnitudes are below a bound; false for NaN."""
    return x.size == 0 or bool(x.max() < most and x.min() > -most)
