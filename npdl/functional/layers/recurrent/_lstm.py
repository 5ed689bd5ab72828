"""Long short-term memory: the forward and the backward pass of one step.

All recurrent layers share the loops over time, forward and backward: see `_time_loop.py`.
"""

from typing import Any

import numpy as np

from npdl.functional._checks import check_int, check_number
from npdl.functional._initializers import Initializer, glorot_uniform, orthogonal, zeros
from npdl.functional._layer import Layer, Params, layer
from npdl.functional.layers.activations._bounded import sigmoid, tanh
from npdl.functional.layers.recurrent._cell import Cell, Memory, States
from npdl.functional.layers.recurrent._inplace_activations import inplace_activation
from npdl.functional.layers.recurrent._time_loop import recurrent
from npdl.tree import Array

__all__ = ["lstm"]


@layer
def lstm(
    units: int,
    *,
    forget_bias: float = 1.0,
    activation: Layer = tanh(),  # noqa: B008 - an immutable value
    gate_activation: Layer = sigmoid(),  # noqa: B008
    return_sequence: bool = False,
    return_state: bool = False,
    reverse: bool = False,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008
    recurrent_weight_init: Initializer = orthogonal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Long short-term memory, over the time axis of (batch, time, features).

    With ``a = xₜ W + hₜ₋₁ U + b``, a block of columns for each gate::

        g = tanh(a_g)    i = σ(a_i)    f = σ(a_f)    o = σ(a_o)
        cₜ = f cₜ₋₁ + i g
        hₜ = o tanh(cₜ)

    The input is `x`, or `(x, mask)`, or `(x, mask, state)`, where mask and state may be `None`.
    The mask is boolean (batch, time), true at steps with data. A masked step carries the state
    through and outputs `h` of this state; the values of `x` at masked steps have no effect. The
    state is the tuple `(h, c)`, each (batch, units), with zeros by default. The state has a
    gradient; the gradient of the mask is `None`. A sequence of length zero returns the state
    unchanged.

    Parameters
    ----------
    units : int
        Size of `h` and `c`.
    forget_bias : float
        Constant added to the initial bias of the forget gate, so that a new layer keeps its state.
    activation, gate_activation : Layer
        Any elementwise activations in place of tanh and σ.
    return_sequence : bool
        Whether the output is `h` of all steps, or of the last one only.
    return_state : bool
        Whether the output is the tuple `(y, state)`, with the state after the last step.
    reverse : bool
        Whether to run from the last step in time to the first. The outputs are in the order of
        the input.
    weight_init, recurrent_weight_init, bias_init : Initializer
        Initial values of each gate's block; Glorot's uniform, orthogonal and zeros by default.

    Returns
    -------
    Layer
        From (batch, time, features) to (batch, units), or (batch, time, units).
        Parameters: ``weight`` (features, 4 units), ``recurrent_weight`` (units, 4 units) and
        ``bias`` (4 units,), with the columns in the order g, i, f, o. PyTorch stores the transposes
        with rows in the order i, f, g, o, and two biases; ``bias`` is their sum.

    Raises
    ------
    ValueError
        If the mask is not bool or a shape does not fit.

    References
    ----------
    Hochreiter, Schmidhuber: Long short-term memory, 1997; the forget gate: Gers, Schmidhuber,
    Cummins: Learning to forget, 2000; its bias: Jozefowicz, Zaremba, Sutskever: An empirical
    exploration of recurrent network architectures, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.lstm(4, return_sequence=True, return_state=True)
    >>> params = model.init(0, (None, 3))
    >>> x = np.ones((2, 5, 3), np.float32)
    >>> mask = np.array([[True, True, True, True, True], [True, True, False, False, False]])
    >>> y, (h, c) = model(params, (x, mask))
    >>> y.shape, h.shape, c.shape
    ((2, 5, 4), (2, 4), (2, 4))
    >>> np.array_equal(h[1], y[1, 1])
    True
    """
    units = check_int(units, "lstm(units=128)")
    forget_bias = check_number(forget_bias, "lstm(128, forget_bias=1.0)")
    cell = _cell(units, forget_bias, activation, gate_activation)
    return recurrent(
        cell,
        units,
        return_sequence=return_sequence,
        return_state=return_state,
        reverse=reverse,
        weight_init=weight_init,
        recurrent_weight_init=recurrent_weight_init,
        bias_init=bias_init,
    )


def _cell(units: int, forget_bias: float, activation: Layer, gate_activation: Layer) -> Cell:
    function = inplace_activation("lstm", "activation", activation)
    gate = inplace_activation("lstm", "gate_activation", gate_activation)

    def blocks(a: Array) -> tuple[Array, ...]:
        """Return all gates, then i, f and o together, then each of g, i, f, o."""
        return (a, a[units:], *a.reshape(4, units, -1))

    def forward(params: Params, z: Any, states: States, memory: Memory) -> tuple[Any, Any]:
        hidden, cells = states
        gates, bounded = memory.steps(4 * units, blocks), memory.steps(units)
        gain = np.empty_like(cells[0])

        def step(t: int) -> Any:
            (a, a_ifo, g, i, f, o), c, b = gates[t], cells[t + 1], bounded[t]
            z(t, a)
            g_cache, gates_cache = function.apply(g, g), gate.apply(a_ifo, a_ifo)
            np.multiply(f, cells[t], c)
            np.multiply(i, g, gain)
            c += gain
            c_cache = function.apply(c, b)
            np.multiply(o, b, hidden[t + 1])
            return g_cache, gates_cache, c_cache

        return step, (gates, bounded)

    def backward(
        params: Params, states: States, kept: Any, caches: list[Any], dz: Array
    ) -> tuple[Any, Any]:
        (_, cells), weight = states, params["recurrent_weight"]
        gates, bounded = kept
        batch = dz.shape[2]
        da = np.empty((4 * units, batch), dz.dtype)
        dg, di, df, do = da.reshape(4, units, batch)
        through_c, d_bounded = da[: 3 * units].reshape(3, units, batch), np.empty_like(dg)

        def step(t: int, dh: Array, dc: Array) -> None:
            g_cache, gates_cache, c_cache = caches[t]
            _, a_ifo, g, i, f, o = gates[t]
            function.derivative(bounded[t], c_cache, d_bounded)
            np.multiply(d_bounded, o, out=d_bounded)
            np.multiply(d_bounded, dh, out=d_bounded)
            np.add(dc, d_bounded, out=dc)
            function.derivative(g, g_cache, dg)
            gate.derivative(a_ifo, gates_cache, da[units:])
            np.multiply(dg, i, out=dg)
            np.multiply(di, g, out=di)
            np.multiply(df, cells[t], out=df)
            np.multiply(do, bounded[t], out=do)
            np.multiply(through_c, dc, out=through_c)
            np.multiply(do, dh, out=do)
            dz[:, t] = da
            weight.dot(da, dh)
            np.multiply(dc, f, out=dc)

        return step, lambda flat: {}

    return Cell(
        "lstm",
        ("candidate", "input", "forget", "output"),
        forward,
        backward,
        joined=True,
        states=2,
        shifts={"forget": forget_bias},
    )
