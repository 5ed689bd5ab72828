"""Getting and setting the arrays of layers."""

from typing import Any

import numpy as np

from npdl import tree
from npdl.functional._arrays import plain_array

__all__ = ["set_weights", "untrained", "weights_of"]


def weights_of(layer: Any) -> list[Any]:
    """Return the arrays of a layer: its `params`, then its untrained arrays."""
    if getattr(layer, "functional", layer) is None:
        raise RuntimeError(f"{layer} has no weights yet; call compile(...) of its model first")
    return [*layer.params, *untrained(layer)]


def untrained(layer: Any) -> list[Any]:
    """Return the arrays of a layer that are not among its `params`, such as running statistics."""
    return [
        leaf for leaf in tree.leaves(getattr(layer, "tree", None)) if not _is_param(leaf, layer)
    ]


def _is_param(leaf: Any, layer: Any) -> bool:
    return any(np.may_share_memory(leaf, array) for array in layer.params)


def set_weights(owner: str, layers: list[Any], weights: Any) -> None:
    """Copy all arrays into the layers, in the order of :func:`weights_of`, or raise unchanged."""
    given = [plain_array(array, f"{owner}.set_weights") for array in weights]
    if any(array.dtype.kind not in "fiub" for array in given):
        raise TypeError(
            f"{owner}.set_weights: expected arrays of numbers, got "
            f"{', '.join(sorted({str(array.dtype) for array in given}))}"
        )
    targets = [weights_of(layer) for layer in layers]
    wanted = [np.shape(array) for arrays in targets for array in arrays]
    if [array.shape for array in given] != wanted:
        raise ValueError(
            f"{owner}.set_weights: expected weights of the shapes {wanted}, got "
            f"{[array.shape for array in given]}; do they belong to another model?"
        )
    remaining = iter(given)
    for layer, arrays in zip(layers, targets, strict=True):
        _set(layer, [next(remaining) for _ in arrays])


def _set(layer: Any, weights: list[Any]) -> None:
    trained = layer.params
    for array, given in zip(trained, weights, strict=False):
        array[...] = given
    rest = iter(weights[len(trained) :])
    if getattr(layer, "tree", None) is not None:
        leaves = [
            leaf if _is_param(leaf, layer) else np.array(next(rest), leaf.dtype)
            for leaf in tree.leaves(layer.tree)
        ]
        layer.tree = tree.unflatten(layer.tree, leaves)
