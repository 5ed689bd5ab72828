"""Long short-term memory, with parameters in twelve arrays or in one matrix."""

import copy
from typing import Any

import numpy as np

import npdl.functional as F
from npdl.compat.layers._recurrent_base import Gated, as_mask
from npdl.compat.layers.base import Parameter, Stateful
from npdl.functional._checks import check_number
from npdl.functional._layer import Shape
from npdl.random import KeyLike

__all__ = ["LSTM", "BatchLSTM", "packed_lstm"]


class _Memory(Gated):
    """A recurrent layer with the states c and h, as optional inputs and as attributes.

    After `forward`, `c0` and `h0` are the last states. After `backward`, `dc0` and `dh0` are the
    gradients in the initial states.
    """

    # Whether the functional layer also returns the states.
    return_state = True
    c0: Any = None
    h0: Any = None
    dc0: Any = None
    dh0: Any = None

    def __init__(
        self,
        gate_activation: Any = "sigmoid",
        need_grad: bool = True,
        forget_bias_num: float = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(gate_activation, need_grad, **kwargs)
        check_number(forget_bias_num, f"{self}(forget_bias_num=1)")
        self.forget_bias_num = forget_bias_num

    def _lstm(self) -> F.Layer:
        return F.lstm(
            forget_bias=float(self.forget_bias_num),
            return_state=self.return_state,
            **self._functional_arguments(),
        )

    def pure(self) -> F.Layer:
        """Return the functional layer from one input to one output, with its exact derivative."""
        alone = copy.copy(self)
        alone.return_state = False
        layer = alone._lstm()
        return layer if self.trainable else F.freeze(layer)

    def _run(self, input: Any, mask: Any, c0: Any, h0: Any, train: bool) -> Any:
        x = self._as_input(input)
        state = tuple(
            np.zeros((len(x), self.n_out), x.dtype) if array is None else self._as_input(array)
            for array in (h0, c0)
        )
        y, (self.h0, self.c0) = self._apply((x, as_mask(mask), state), train)
        return y

    def backward(
        self, pre_grad: Any, dcn: Any = None, dhn: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Return the gradient in the input; store the parameter gradients in `grads`.

        Parameters
        ----------
        pre_grad : array or None
            The gradient in the output of the last :meth:`forward`; `None` if only the states were
            used.
        dcn, dhn : array, optional
            The gradients in the last states, (batch, n_out).

        Returns
        -------
        array or None
            The gradient in the input; `None` for the first layer of a model, where `dc0` and `dh0`
            are also `None`.
        """
        shape = self.last_shape
        states = tuple(
            None if g is None else self._as_gradient(g, (shape[0], self.n_out) if shape else None)
            for g in (dhn, dcn)
        )
        g = None if pre_grad is None else self._as_gradient(pre_grad, shape)
        return self._backward((g, states))

    def _backward(self, g: Any) -> Any:
        dx = Stateful._backward(self, g)
        x, _, (self.dh0, self.dc0) = (None, None, (None, None)) if dx is None else dx
        return x


class LSTM(_Memory):
    """Long short-term memory.

    With h = hₜ₋₁::

        g = tanh(xₜ U_g + h W_g + b_g)
        i = σ(xₜ U_i + h W_i + b_i)
        f = σ(xₜ U_f + h W_f + b_f)
        o = σ(xₜ U_o + h W_o + b_o)
        cₜ = f cₜ₋₁ + i g
        hₜ = o tanh(cₜ)

    Parameters
    ----------
    gate_activation : str or Activation
        The activation σ of the gates.
    need_grad : bool
        Whether the parameters are trained. If not, their gradients are `None`, and
        :meth:`backward` returns only the gradient in the input.
    forget_bias_num : float
        The initial value of `b_f`; a positive value keeps the state at first.
    **kwargs
        `n_out` and the other arguments of :class:`Recurrent`.

    Attributes
    ----------
    U_g, U_i, U_f, U_o, W_g, W_i, W_f, W_o, b_g, b_i, b_f, b_o : array
        Parameters, in this order: four of (n_in, n_out), four of (n_out, n_out), and four of
        (n_out,).
    dU_g, ... : array
        Their gradients, summed over the batch.
    c0, h0 : array
        The states after the last time step of the last :meth:`forward`; a decoder feeds them back.
    dc0, dh0 : array
        The gradients in the initial states of :meth:`forward`.

    References
    ----------
    Hochreiter, Schmidhuber: Long short-term memory, 1997; the forget gate: Gers, Schmidhuber,
    Cummins: Learning to forget, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.LSTM(n_out=8, n_in=4)
    >>> layer.connect_to()
    >>> x, mask = np.ones((2, 5, 4)), np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    >>> y = layer.forward(x, mask)
    >>> y = layer.forward(x, mask, c0=layer.c0, h0=layer.h0)
    >>> y.shape, layer.c0.shape
    ((2, 8), (2, 8))
    """

    U_g, U_i, U_f, U_o = (Parameter("weight", block=(i, 4)) for i in range(4))
    W_g, W_i, W_f, W_o = (Parameter("recurrent_weight", block=(i, 4)) for i in range(4))
    b_g, b_i, b_f, b_o = (Parameter("bias", block=(i, 4)) for i in range(4))

    def _build(self, shape: Shape) -> F.Layer:
        return self._lstm()

    def forward(
        self,
        input: Any,
        mask: Any = None,
        c0: Any = None,
        h0: Any = None,
        *args: Any,
        train: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            Sequences (batch, time, n_in).
        mask : array, optional
            (batch, time), true or 1 where there is data.
        c0, h0 : array, optional
            The initial states, (batch, n_out); zeros by default.
        train : bool
            Ignored by this layer.

        Returns
        -------
        array
            (batch, n_out), or (batch, time, n_out) with `return_sequence`.
        """
        return self._run(input, mask, c0, h0, train)


class BatchLSTM(_Memory):
    """The same layer as :class:`LSTM`, with all parameters in one matrix.

    Parameters
    ----------
    gate_activation : str or Activation
        The activation of the gates.
    need_grad : bool
        Whether the parameters are trained. If not, their gradient is `None`, and
        :meth:`backward` returns only the gradient in the input.
    forget_bias_num : float
        The initial bias of the forget gate; a positive value keeps the state at first.
    **kwargs
        `n_out` and the other arguments of :class:`Recurrent`.

    Attributes
    ----------
    AllW : array
        The parameters, (1 + n_in + n_out, 4 n_out): a row of biases, n_in rows of input weights and
        n_out rows of weights of `h`. The columns are the gates i, f, o and g.
    dAllW : array
        Its gradient, summed over the batch; also under its old name ``d_AllW``.
    c0, h0 : array
        The states after the last time step of the last :meth:`forward`.
    dc0, dh0 : array
        The gradients in the initial states of :meth:`forward`; also under their old names ``d_c0``
        and ``d_h0``.

    References
    ----------
    Hochreiter, Schmidhuber: Long short-term memory, 1997; the forget gate: Gers, Schmidhuber,
    Cummins: Learning to forget, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.BatchLSTM(n_out=8, n_in=4, return_sequence=True)
    >>> layer.connect_to()
    >>> layer.AllW.shape
    (13, 32)
    >>> layer.forward(np.zeros((2, 5, 4))).shape
    (2, 5, 8)
    """

    AllW = Parameter("AllW")

    def pure_params(self) -> Any:
        """Return the parameters of :meth:`pure`."""
        return None if self.tree is None else _unpack(self.AllW)

    d_AllW = property(lambda self: self.dAllW)  # noqa: N815
    d_c0 = property(lambda self: self.dc0)
    d_h0 = property(lambda self: self.dh0)

    def _build(self, shape: Shape) -> F.Layer:
        return packed_lstm(self._lstm())

    # The documentation of NumpyDL has this order of arguments.
    def forward(  # type: ignore[override]
        self,
        input: Any,
        c0: Any = None,
        h0: Any = None,
        mask: Any = None,
        *args: Any,
        train: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            Sequences (batch, time, n_in).
        c0, h0 : array, optional
            The initial states, (batch, n_out); zeros by default.
        mask : array, optional
            (batch, time), true or 1 where there is data.
        train : bool
            Ignored by this layer.

        Returns
        -------
        array
            (batch, n_out), or (batch, time, n_out) with `return_sequence`.
        """
        return self._run(input, mask, c0, h0, train)


@F.layer
def packed_lstm(lstm: F.Layer) -> F.Layer:
    """Pack the parameters of an LSTM into one matrix with the rows bias, x2h and h2h.

    Parameters
    ----------
    lstm : Layer
        A layer of :func:`npdl.functional.lstm`.

    Returns
    -------
    Layer
        The same layer with one parameter ``AllW``, (1 + features + units, 4 units). Its columns are
        the gates i, f, o and g.
    """

    def init(rng: KeyLike, shape: Any) -> Any:
        return {"AllW": _pack(lstm.init(rng, shape))}

    def apply(params: Any, x: Any, *, keep_cache: bool = True) -> tuple[Any, Any]:
        parts = _unpack(params["AllW"])
        y, cache = lstm.apply(parts, x, keep_cache=keep_cache)
        return y, (parts, cache)

    def backward(params: Any, cache: Any, g: Any, *, input_grad: bool = True) -> tuple[Any, Any]:
        grads, dx = lstm.backward(*cache, g, input_grad=input_grad)
        return {"AllW": _pack(grads)}, dx

    return F.Layer(init, apply, backward, lstm.out_shape)


def _pack(parts: Any) -> Any:
    """Return one matrix; the gate g, first in the functional layer, becomes the last."""
    rows = np.vstack([parts["bias"], parts["weight"], parts["recurrent_weight"]])
    return np.roll(rows, -(rows.shape[1] // 4), axis=1)


def _unpack(matrix: Any) -> Any:
    """Return the three parameters in the matrix, with the gate g first; one copy reorders them."""
    units = matrix.shape[1] // 4
    rows = np.roll(matrix, units, axis=1)
    return {"bias": rows[0], "weight": rows[1:-units], "recurrent_weight": rows[-units:]}
