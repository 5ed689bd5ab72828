"""Wrapper of any layer of `npdl.functional` as a layer of a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import npdl.functional as F
from npdl import tree
from npdl.compat._functions import softmax_before_cross_entropy
from npdl.compat.layers.base import Stateful
from npdl.functional._arrays import plain_array
from npdl.functional._layer import Shape

__all__ = ["Functional"]


class Functional(Stateful):
    """A layer of `npdl.functional` as a layer of a model.

    Parameters
    ----------
    layer : npdl.functional.Layer
        The layer, with one input and one output; or its configuration.
    params : tree, optional
        Its parameters, which are copied. By default, :meth:`connect_to` initializes them. The
        configuration does not contain them.
    input_shape : tuple, optional
        The shape of one example, without the batch, for the first layer of a model.

    Examples
    --------
    >>> import npdl
    >>> import npdl.functional as F
    >>> layer = npdl.layers.Functional(F.residual(F.layer_norm(), F.dense(8)), input_shape=(8,))
    >>> layer.connect_to()
    >>> layer.out_shape
    (None, 8)
    >>> [array.shape for array in layer.params]
    [(8,), (8,), (8,), (8, 8)]
    """

    usage = "Functional(layer, input_shape=(8,))"
    weight_arguments = ("params",)
    # The layer may contain a dropout.
    needs_key = True
    # The shape of the first example, for a layer without `input_shape`.
    seen_shape: Shape = ()

    def __init__(
        self,
        layer: F.Layer | Mapping[str, Any],
        params: Any = None,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        functional = layer
        if isinstance(layer, Mapping):
            functional = F.from_config(dict(layer), (softmax_before_cross_entropy,))
        if not isinstance(functional, F.Layer):
            raise TypeError(
                f"{self}: expected a layer of npdl.functional, as in Functional(F.relu()), got "
                f"{layer!r}"
            )
        self.layer = functional
        self.given_params = params
        self.input_sizes = () if input_shape is None else tuple(input_shape)

    def _build(self, shape: Shape) -> F.Layer:
        return self.layer

    def _initial_params(self, layer: F.Layer, shape: Shape) -> Any:
        return (
            super()._initial_params(layer, shape)
            if self.given_params is None
            else self.given_params
        )

    def initialize_without_shape(self) -> None:
        """Initialize the layer with the passed parameters, without the shape of an example."""
        self._initialize(())

    def _apply(self, x: Any, train: bool) -> Any:
        self.seen_shape = self.seen_shape or x.shape[1:]
        return super()._apply(x, train)

    def probe(self, input: Any) -> Any:
        """Return the output in training mode, without side effects or draws from the generator.

        Parameters
        ----------
        input : array
            The input, the batch first.
        """
        x = self._as_input(input)
        self.seen_shape = self.seen_shape or x.shape[1:]
        # A batch norm needs at least two examples.
        batch = x if len(x) > 1 else np.concatenate([x, x])
        return self.functional.apply(self.tree, batch, train=True, rng=(0,))[0][: len(x)]

    def _saved_arguments(self) -> dict[str, Any]:
        arguments = super()._saved_arguments()
        return arguments | ({"layer": self.layer} if "layer" in arguments else {})

    def _as_input(self, input: Any) -> Any:
        # Ids must stay ints.
        array = plain_array(input, type(self).__name__)
        return array if array.dtype.kind in "iub" else super()._as_input(array)

    @property
    def params(self) -> list[Any]:
        """The arrays of the parameters, in the order of the tree."""
        return tree.leaves(self.tree)

    @property
    def grads(self) -> list[Any]:
        """The gradients of the parameters; each is `None` before the first :meth:`backward`."""
        return tree.aligned(self.gradients, self.tree)
