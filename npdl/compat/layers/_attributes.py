"""Descriptors for attributes of layers: parameter arrays, and attributes of Keras's layers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npdl.compat._keras_arguments import translated

__all__ = ["Absent", "Derived", "Parameter"]


class Parameter:
    """An attribute of a :class:`Stateful` layer: a leaf of its parameter tree, or a block of one.

    It is `None` until the layer is connected. The attribute ``dW`` is the gradient of ``W``, or
    `None` before the first backward pass. An assignment copies the values into the layer's array,
    so later changes of the assigned array have no effect.

    Parameters
    ----------
    path : str
        The path of the leaf in the tree, such as ``"0/weight"``.
    block : pair of ints, optional
        Index and number of equal blocks along the last axis.
    trained : bool
        Whether the array is one of the layer's `params`.
    """

    def __init__(self, path: str, block: tuple[int, int] = (0, 1), trained: bool = True) -> None:
        self.keys = [int(key) if key.isdigit() else key for key in path.split("/")]
        self.block, self.trained = block, trained

    def __set_name__(self, owner: Any, name: str) -> None:
        self.name = name
        if self.trained:
            owner.parameter_names = (*owner.parameter_names, name)
            setattr(owner, f"d{name}", property(lambda layer: self._of(layer.gradients)))

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        if layer is None:
            return self
        return self._of(layer.tree)

    def __set__(self, layer: Any, value: Any) -> None:
        array, given = self.__get__(layer), np.asarray(value)
        if array is None:
            raise AttributeError(f"{layer} has no {self.name} yet; call connect_to(...) first")
        if given.shape != array.shape:
            raise ValueError(
                f"{layer}.{self.name} has the shape {array.shape}, got an array of {given.shape}"
            )
        array[...] = given

    def _of(self, node: Any) -> Any:
        try:
            for key in self.keys:
                if node is None:
                    return None
                node = node[key]
        except KeyError:
            return None  # a layer without a bias
        number, count = self.block
        if node is None or count == 1:
            return node
        size = node.shape[-1] // count
        return node[..., number * size : (number + 1) * size]


class Derived:
    """A computed attribute; a user's layer may override it by assignment."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        return self if layer is None else self.function(layer)


class Absent:
    """An attribute of Keras's layers without a counterpart; a user's subclass may define it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        return None if layer is None else vars(layer).get(self.name)

    def __set__(self, layer: Any, value: Any) -> None:
        if type(layer).__module__.startswith("npdl."):
            translated(str(layer), (), {self.name: value})
        vars(layer)[self.name] = value
