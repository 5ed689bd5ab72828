"""Masked steps of a sequence; their values must not reach any matrix product.

Zero times NaN is NaN, so a weight of zero does not exclude a step. Steps with NaN or infinities are
therefore replaced by zeros before the first matrix product. All other steps stay unchanged.
"""

from typing import NamedTuple

import numpy as np

from npdl.tree import Array

__all__ = ["Replaced", "replace_steps"]


class Replaced(NamedTuple):
    """Masks (batch, time) of the replaced steps and of the outputs that depend on them."""

    # Steps replaced by zeros; their gradient is zero. `None` if all steps are unchanged.
    zeros: Array | None = None
    # Causal outputs that depend on an unmasked non-finite step; they are NaN.
    lost: Array | None = None

    def outputs(self, y: Array) -> Array:
        """Return the outputs (batch, time, features) with NaN at lost steps."""
        return y if self.lost is None else np.where(self.lost[..., None], np.nan, y)

    def cotangent(self, g: Array) -> Array:
        """Return the gradient of the outputs with zeros at lost steps."""
        return g if self.lost is None else np.where(self.lost[..., None], 0, g)

    def gradient(self, dx: Array) -> Array:
        """Return the gradient of the sequences with zeros at replaced steps."""
        return dx if self.zeros is None else np.where(self.zeros[..., None], 0, dx)


_UNCHANGED = Replaced()


def replace_steps(x: Array, mask: Array | None, causal: bool) -> tuple[Array, Replaced]:
    """Replace non-finite steps by zeros if outputs must not depend on them.

    These steps are the masked ones; in causal layers, all steps, because earlier outputs do not
    depend on later steps. Masked steps are also replaced if a product of two values would overflow.

    Parameters
    ----------
    x : array of shape (batch, time, features)
        The sequences; they are not modified.
    mask : array of shape (batch, time), optional
        True at steps with data.
    causal : bool
        Whether an output depends on its own and earlier steps only.

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
        return x, _UNCHANGED
    x = x.copy()
    x[zeros] = 0
    return x, Replaced(zeros, lost)


def _within(x: Array, most: float) -> bool:
    """Whether all magnitudes are below a bound; false for NaN."""
    return x.size == 0 or bool(x.max() < most and x.min() > -most)
