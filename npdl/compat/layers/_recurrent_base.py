"""Base classes of recurrent layers, over the time axis of (batch, time, features).

All accept a mask (batch, time), true or 1 where there is data. A masked time step keeps the state,
and its input has no effect. Gradients are exact, through all time steps.
"""

from typing import Any

import numpy as np

from npdl.compat import activations, initializations
from npdl.compat.layers._sizes import optional_int, positive_int, shape_before
from npdl.compat.layers.base import Layer, Stateful
from npdl.functional._arrays import plain_array
from npdl.functional._checks import check_flag, is_int

__all__ = ["Gated", "Recurrent", "Unrolled", "as_mask"]


class Recurrent(Layer):
    """The base class of recurrent layers: arguments and sizes, without computation.

    Parameters
    ----------
    n_out : int
        Number of hidden units.
    n_in : int, optional
        Number of input features; required only for the first layer of a model.
    nb_batch, nb_seq : int, optional
        Sizes of the batch and the time axis; used only for `out_shape`, if the layer before does
        not define them.
    init, inner_init : str or Initializer
        Initial values of the input weights and of the recurrent weights.
    activation : str or Activation
        The activation.
    return_sequence : bool
        Whether to return the outputs of all time steps, (batch, time, n_out), or only the last
        output, (batch, n_out).

    Examples
    --------
    >>> import npdl
    >>> layer = npdl.layers.Recurrent(n_out=8, n_in=4, return_sequence=True)
    >>> layer.connect_to()
    >>> layer.out_shape
    (None, None, 8)
    """

    def __init__(
        self,
        n_out: int,
        n_in: int | None = None,
        nb_batch: int | None = None,
        nb_seq: int | None = None,
        init: Any = "glorot_uniform",
        inner_init: Any = "orthogonal",
        activation: Any = "tanh",
        return_sequence: bool = False,
    ) -> None:
        self.n_out = positive_int(self, "n_out", n_out)
        self.n_in = optional_int(self, "n_in", n_in)
        self.input_sizes = () if n_in is None else (n_in,)
        self.nb_batch = optional_int(self, "nb_batch", nb_batch)
        self.nb_seq = optional_int(self, "nb_seq", nb_seq)
        self.init = initializations.get(init)
        self.inner_init = initializations.get(inner_init)
        self.activation = activations.get(activation)
        call = f"{type(self).__name__}(n_out=8, return_sequence=True)"
        self.return_sequence = check_flag(return_sequence, call)

    def connect_to(self, prev_layer: Any = None) -> None:
        """Set the sizes from the layer before.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``, (batch, time, features); omitted for a first
            layer with `n_in`.

        Raises
        ------
        ValueError
            If the size of the input is unknown.
        """
        shape = shape_before(self, prev_layer, self.input_sizes, 1, f"{self}(n_out=32, n_in=64)")
        shape = (None,) * (3 - len(shape)) + shape if prev_layer is None else shape
        if len(shape) != 3:
            raise ValueError(
                f"{self}: expected (batch, time, features), but {prev_layer} has the output {shape}"
            )
        self.nb_batch, self.nb_seq = shape[0] or self.nb_batch, shape[1] or self.nb_seq
        self.n_in = shape[2]
        time = (self.nb_seq,) if self.return_sequence else ()
        self.out_shape = (self.nb_batch, *time, self.n_out)


class Unrolled(Recurrent, Stateful):
    """A recurrent layer of `npdl.functional` with the inputs (x, mask) or (x, mask, state)."""

    activation_cls = property(lambda self: type(self.activation))

    @classmethod
    def _rearranged(cls, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # The first argument is the gate activation; an int can only be the number of units.
        if not args or not is_int(args[0]):
            return args, keywords
        if len(args) > 1 or "n_out" in keywords:
            raise TypeError(
                f"{cls.__name__}: pass the arguments after the number of units by keyword, as in "
                f"{cls.__name__}(n_out={args[0]}, activation='tanh'), got {args[1:]!r}"
            )
        return (), {"n_out": args[0], **keywords}

    def __init__(self, **kwargs: Any) -> None:
        if "n_out" not in kwargs:
            raise TypeError(f"{self}: n_out is missing, as in {self}(n_out=32, n_in=64)")
        super().__init__(**kwargs)

    def connect_to(self, prev_layer: Any = None) -> None:
        """Initialize the parameters for the output of the layer before.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``, (batch, time, features); omitted for a first
            layer with `n_in`.
        """
        super().connect_to(prev_layer)
        self._initialize((self.nb_seq, self.n_in))

    def _functional_arguments(self) -> dict[str, Any]:
        """Return the common arguments of the functional layers."""
        return {
            "units": self.n_out,
            "activation": self.activation.layer,
            "return_sequence": self.return_sequence,
            "weight_init": self.init.pure,
            "recurrent_weight_init": self.inner_init.pure,
        }

    def forward(
        self, input: Any, mask: Any = None, *args: Any, train: bool = True, **kwargs: Any
    ) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            Sequences (batch, time, n_in).
        mask : array, optional
            (batch, time), true or 1 where there is data.
        train : bool
            Ignored by this layer.

        Returns
        -------
        array
            (batch, n_out), or (batch, time, n_out) with `return_sequence`.
        """
        return self._apply((self._as_input(input), as_mask(mask)), train)

    def _backward(self, g: Any) -> Any:
        dx = super()._backward(g)
        return None if dx is None else dx[0]


class Gated(Unrolled):
    """A recurrent layer with gates."""

    def __init__(self, gate_activation: Any, need_grad: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gate_activation = activations.get(gate_activation)
        call = f"{type(self).__name__}(n_out=8, need_grad=False)"
        self.trainable_by_default = check_flag(need_grad, call)

    gate_activation_cls = property(lambda self: type(self.gate_activation))

    @property
    def need_grad(self) -> bool:
        """Whether the parameters are trained; alias of `trainable`."""
        return self.trainable

    @need_grad.setter
    def need_grad(self, value: bool) -> None:
        self.trainable = value

    def _functional_arguments(self) -> dict[str, Any]:
        return super()._functional_arguments() | {"gate_activation": self.gate_activation.layer}


def as_mask(mask: Any) -> Any:
    """Return a mask as an array of booleans, or raise unless all elements are 0 or 1."""
    if mask is None:
        return None
    given = plain_array(mask, "mask")
    flags = given.astype(bool)
    if not np.array_equal(given, flags):
        raise ValueError(
            "the mask must be 1 (true) where there is data and 0 (false) elsewhere, but it has "
            "other values"
        )
    return flags
