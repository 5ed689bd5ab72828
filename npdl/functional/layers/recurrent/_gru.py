"""The gated recurrent unit, with the reset gate after or before the recurrent product."""

from typing import Any

import numpy as np

from npdl.functional._checks import check_flag, check_int
from npdl.functional._initializers import Initializer, glorot_uniform, orthogonal, zeros
from npdl.functional._kernels.blas_sums import sum_of_columns
from npdl.functional._layer import Layer, Params, layer
from npdl.functional.layers.activations._bounded import sigmoid, tanh
from npdl.functional.layers.recurrent._cell import Cell, Memory, States, before_steps, by_step
from npdl.functional.layers.recurrent._inplace_activations import (
    InplaceActivation,
    inplace_activation,
)
from npdl.functional.layers.recurrent._time_loop import recurrent
from npdl.tree import Array

__all__ = ["gru"]


@layer
def gru(
    units: int,
    *,
    reset_after: bool = True,
    activation: Layer = tanh(),  # noqa: B008 - an immutable value
    gate_activation: Layer = sigmoid(),  # noqa: B008
    return_sequence: bool = False,
    return_state: bool = False,
    reverse: bool = False,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008
    recurrent_weight_init: Initializer = orthogonal(),  # noqa: B008
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Gated recurrent unit, over the time axis of (batch, time, features).

    With a block of columns for each gate, and with ``h = hₜ₋₁``::

        r = σ(xₜ W_r + b_r + h U_r + q_r)
        z = σ(xₜ W_z + b_z + h U_z + q_z)
        n = tanh(xₜ W_n + b_n + r (h U_n + q_n))
        hₜ = (1 - z) n + z h

    With ``reset_after=False`` the reset gate acts before the product, and the layer has no `q`::

        n = tanh(xₜ W_n + b_n + (r h) U_n)

    The layer has the inputs, outputs and masks of :func:`lstm`, but its state is one array `h`.

    Parameters
    ----------
    units : int
        Size of `h`.
    reset_after : bool
        ``True``: the reset gate acts after the recurrent matrix product, as in cuDNN, PyTorch and
        Keras. ``False``: it acts on the state before the product, as in the paper. ``True`` saves
        one matrix product per step.
    activation, gate_activation : Layer
        Any elementwise activations in place of tanh and σ.
    return_sequence, return_state, reverse : bool
        The outputs, and the direction of the layer; as in :func:`lstm`.
    weight_init, recurrent_weight_init, bias_init : Initializer
        Initial values of each gate's block; Glorot's uniform, orthogonal and zeros by default.

    Returns
    -------
    Layer
        Parameters: ``weight`` (features, 3 units), ``recurrent_weight`` (units, 3 units), ``bias``
        (3 units,), with the columns in the order r, z, n. With `reset_after` also
        ``recurrent_bias`` (3 units,), the q, added to ``h U`` of all gates. PyTorch stores the
        transposes in the same order.

    References
    ----------
    Cho et al.: Learning phrase representations using RNN encoder-decoder for statistical machine
    translation, 2014, equations 5 to 8, with the reset before the product and without biases. Chung
    et al.: Empirical evaluation of gated recurrent neural networks on sequence modeling, 2014,
    exchange z and 1 - z.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.gru(4, return_state=True)
    >>> params = model.init(0, (None, 3))
    >>> y, h = model(params, (np.ones((2, 5, 3), np.float32), None, np.ones((2, 4), np.float32)))
    >>> y.shape, h.shape
    ((2, 4), (2, 4))
    """
    units = check_int(units, "gru(units=128)")
    reset_after = check_flag(reset_after, "gru(128, reset_after=False)")
    function = inplace_activation("gru", "activation", activation)
    gate = inplace_activation("gru", "gate_activation", gate_activation)
    return recurrent(
        (_reset_after if reset_after else _reset_before)(units, function, gate),
        units,
        return_sequence=return_sequence,
        return_state=return_state,
        reverse=reverse,
        weight_init=weight_init,
        recurrent_weight_init=recurrent_weight_init,
        bias_init=bias_init,
    )


_GATES = ("reset", "update", "candidate")


def _reset_after(units: int, function: InplaceActivation, gate: InplaceActivation) -> Cell:
    def blocks(a: Array) -> tuple[Array, ...]:
        """Return all rows, the gates r and z together, then r, z, and h U_n + q_n."""
        return (a, a[: 2 * units], *a.reshape(3, units, -1))

    def input_bias(params: Params) -> Array:
        """Return b + q, but only b for n, where r scales q."""
        bias: Array = params["bias"].copy()
        bias[: 2 * units] += params["recurrent_bias"][: 2 * units]
        return bias

    def forward(params: Params, inputs: Array, states: States, memory: Memory) -> tuple[Any, Any]:
        (hidden,), product_of = states, params["recurrent_weight"].T.dot
        # One copy of the column per example: adding arrays of equal shapes is faster.
        bias = np.repeat(params["recurrent_bias"][2 * units :, None], memory.batch, axis=1)
        gates, candidates = memory.steps(3 * units, blocks), memory.steps(units)
        inputs_rz, inputs_n = by_step(inputs[: 2 * units]), by_step(inputs[2 * units :])

        def step(t: int) -> Any:
            (a, rz, r, z, product), n = gates[t], candidates[t]
            product_of(hidden[t], a)
            rz += inputs_rz[t]
            product += bias
            gates_cache = gate.apply(rz, rz)
            np.multiply(r, product, n)
            n += inputs_n[t]
            n_cache = function.apply(n, n)
            _interpolate(n, z, hidden[t], hidden[t + 1])
            return gates_cache, n_cache

        return step, (gates, candidates)

    def backward(
        params: Params, states: States, kept: Any, caches: list[Any], dz: Array
    ) -> tuple[Any, Any]:
        (hidden,), weight = states, params["recurrent_weight"]
        gates, candidates = kept
        work = np.empty_like(hidden[0])
        da = np.empty((3 * units, work.shape[1]), dz.dtype)
        dr, _, dn = da.reshape(3, *work.shape)
        d_product = np.empty((units, *dz.shape[1:]), dz.dtype)

        def step(t: int, dh: Array) -> None:
            _, rz, r, z, product = gates[t]
            _derivatives(function, gate, rz, candidates[t], caches[t], da)
            _interpolate_backward(dh, candidates[t], z, hidden[t], da, work)
            np.multiply(dn, product, out=work)
            np.multiply(dr, work, out=dr)
            dz[:, t] = da
            np.multiply(dn, r, out=dn)
            d_product[:, t] = dn
            weight.dot(da, work)
            dh *= z
            dh += work

        def finish(flat: Array) -> dict[str, Array]:
            d = np.concatenate([flat[: 2 * units], d_product.reshape(units, flat.shape[1])])
            return {
                "recurrent_weight": before_steps(hidden) @ d.T,
                "recurrent_bias": sum_of_columns(d),
            }

        return step, finish

    biases = ("bias", "recurrent_bias")
    return Cell("gru", _GATES, forward, backward, biases=biases, input_bias=input_bias)


def _reset_before(units: int, function: InplaceActivation, gate: InplaceActivation) -> Cell:
    def blocks(a: Array) -> tuple[Array, ...]:
        """Return the gates r and z together, then r and z."""
        return (a, *a.reshape(2, units, -1))

    def forward(params: Params, inputs: Array, states: States, memory: Memory) -> tuple[Any, Any]:
        (hidden,), weight = states, params["recurrent_weight"].T
        product_rz, product_n = weight[: 2 * units].dot, weight[2 * units :].dot
        gates, candidates = memory.steps(2 * units, blocks), memory.steps(units)
        inputs_rz, inputs_n = by_step(inputs[: 2 * units]), by_step(inputs[2 * units :])
        reset = np.empty_like(hidden[0])

        def step(t: int) -> Any:
            (rz, r, z), n = gates[t], candidates[t]
            product_rz(hidden[t], rz)
            rz += inputs_rz[t]
            gates_cache = gate.apply(rz, rz)
            np.multiply(r, hidden[t], reset)
            product_n(reset, n)
            n += inputs_n[t]
            n_cache = function.apply(n, n)
            _interpolate(n, z, hidden[t], hidden[t + 1])
            return gates_cache, n_cache

        return step, (gates, candidates)

    def backward(
        params: Params, states: States, kept: Any, caches: list[Any], dz: Array
    ) -> tuple[Any, Any]:
        (hidden,), weight = states, params["recurrent_weight"]
        gates, candidates = kept
        work, d_reset = np.empty_like(hidden[0]), np.empty_like(hidden[0])
        da = np.empty((3 * units, work.shape[1]), dz.dtype)
        dr, _, dn = da.reshape(3, *work.shape)
        resets = np.empty((units, *dz.shape[1:]), dz.dtype)

        def step(t: int, dh: Array) -> None:
            rz, r, z = gates[t]
            _derivatives(function, gate, rz, candidates[t], caches[t], da)
            _interpolate_backward(dh, candidates[t], z, hidden[t], da, work)
            weight[:, 2 * units :].dot(dn, d_reset)
            np.multiply(d_reset, hidden[t], out=work)
            np.multiply(dr, work, out=dr)
            dz[:, t] = da
            weight[:, : 2 * units].dot(da[: 2 * units], work)
            np.multiply(d_reset, r, out=d_reset)
            np.multiply(r, hidden[t], out=resets[:, t])
            dh *= z
            dh += d_reset
            dh += work

        def finish(flat: Array) -> dict[str, Array]:
            d_weight = np.empty_like(weight)
            np.matmul(before_steps(hidden), flat[: 2 * units].T, out=d_weight[:, : 2 * units])
            rows = resets.reshape(units, flat.shape[1])
            np.matmul(rows, flat[2 * units :].T, out=d_weight[:, 2 * units :])
            return {"recurrent_weight": d_weight}

        return step, finish

    return Cell("gru", _GATES, forward, backward)


def _interpolate(n: Array, z: Array, h: Array, out: Array) -> None:
    """Write (1 - z) n + z h."""
    np.subtract(h, n, out)
    out *= z
    out += n


def _derivatives(
    function: InplaceActivation,
    gate: InplaceActivation,
    rz: Array,
    n: Array,
    caches: tuple[Any, Any],
    da: Array,
) -> None:
    """Write the derivatives of r, z and n into the blocks of `da`."""
    bound = len(rz)
    gate.derivative(rz, caches[0], da[:bound])
    function.derivative(n, caches[1], da[bound:])


def _interpolate_backward(dh: Array, n: Array, z: Array, h: Array, da: Array, work: Array) -> None:
    """Multiply the derivatives of z and n by their gradients."""
    _, dz, dn = da.reshape(3, *n.shape)
    np.subtract(h, n, out=work)
    work *= dh
    dz *= work
    np.subtract(1.0, z, out=work)
    work *= dh
    dn *= work
