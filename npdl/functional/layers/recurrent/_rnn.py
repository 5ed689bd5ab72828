"""The plain recurrent layer."""

from typing import Any

import numpy as np

from npdl.functional._checks import check_int
from npdl.functional._initializers import Initializer, glorot_uniform, orthogonal, zeros
from npdl.functional._layer import Layer, Params, layer
from npdl.functional.layers.activations._bounded import tanh
from npdl.functional.layers.recurrent._cell import Cell, Memory, States
from npdl.functional.layers.recurrent._inplace_activations import inplace_activation
from npdl.functional.layers.recurrent._time_loop import recurrent
from npdl.tree import Array

__all__ = ["rnn"]


@layer
def rnn(
    units: int,
    *,
    activation: Layer = tanh(),  # noqa: B008 - an immutable value
    return_sequence: bool = False,
    return_state: bool = False,
    reverse: bool = False,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008
    recurrent_weight_init: Initializer = orthogonal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Carry a state along a sequence: ``hₜ = tanh(xₜ W + hₜ₋₁ U + b)``.

    The layer has the inputs, outputs and masks of :func:`lstm`, but its state is one array `h`.

    Parameters
    ----------
    units : int
        Size of the state.
    activation : Layer
        Any elementwise activation in place of tanh.
    return_sequence, return_state, reverse : bool
        The outputs, and the direction of the layer; as in :func:`lstm`.
    weight_init, recurrent_weight_init, bias_init : Initializer
        Initial values; Glorot's uniform, orthogonal and zeros by default.

    Returns
    -------
    Layer
        Parameters: ``weight`` (features, units), ``recurrent_weight`` (units, units) and ``bias``
        (units,). PyTorch stores the transposes, and two biases; ``bias`` is their sum.

    References
    ----------
    Elman: Finding structure in time, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.serial(F.rnn(8, activation=F.relu(), return_sequence=True), F.rnn(4))
    >>> params = model.init(0, (20, 3))
    >>> model(params, np.zeros((2, 20, 3), np.float32)).shape
    (2, 4)
    """
    units = check_int(units, "rnn(units=128)")
    function = inplace_activation("rnn", "activation", activation)

    def forward(params: Params, z: Any, states: States, memory: Memory) -> tuple[Any, Any]:
        (hidden,) = states

        def step(t: int) -> Any:
            y = hidden[t + 1]
            z(t, y)
            return function.apply(y, y)

        return step, None

    def backward(
        params: Params, states: States, kept: None, caches: list[Any], dz: Array
    ) -> tuple[Any, Any]:
        (hidden,), weight = states, params["recurrent_weight"]
        da = np.empty_like(hidden[0])

        def step(t: int, dh: Array) -> None:
            function.derivative(hidden[t + 1], caches[t], da)
            np.multiply(da, dh, out=da)
            dz[:, t] = da
            weight.dot(da, dh)

        return step, lambda flat: {}

    return recurrent(
        Cell("rnn", ("state",), forward, backward, joined=True),
        units,
        return_sequence=return_sequence,
        return_state=return_state,
        reverse=reverse,
        weight_init=weight_init,
        recurrent_weight_init=recurrent_weight_init,
        bias_init=bias_init,
    )
