"""Recurrent layers over the time axis of (batch, time, features)."""

from typing import Any

import npdl.functional as F
from npdl.compat.layers._lstm import LSTM, BatchLSTM
from npdl.compat.layers._recurrent_base import Gated, Recurrent, Unrolled
from npdl.compat.layers.base import Parameter
from npdl.functional._layer import Shape

__all__ = ["GRU", "LSTM", "BatchLSTM", "Recurrent", "SimpleRNN"]


class SimpleRNN(Unrolled):
    """Simple recurrent layer: ``hₜ = tanh(xₜ W + hₜ₋₁ U + b)``.

    Parameters
    ----------
    **kwargs
        `n_out` and the other arguments of :class:`Recurrent`.

    Attributes
    ----------
    W, U, b : array
        Parameters, (n_in, n_out), (n_out, n_out) and (n_out,).
    dW, dU, db : array
        Their gradients, summed over the batch.

    References
    ----------
    Elman: Finding structure in time, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.SimpleRNN(n_out=8, n_in=4)
    >>> layer.connect_to()
    >>> layer.forward(np.zeros((2, 5, 4))).shape
    (2, 8)
    """

    W = Parameter("weight")
    U = Parameter("recurrent_weight")
    b = Parameter("bias")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def _build(self, shape: Shape) -> F.Layer:
        return F.rnn(**self._functional_arguments())


class GRU(Gated):
    """Gated recurrent unit, with the reset gate before the recurrent matrix product.

    With s = sₜ₋₁::

        r = σ(xₜ U_r + s W_r + b_r)
        z = σ(xₜ U_z + s W_z + b_z)
        h = tanh(xₜ U_h + (s r) W_h + b_h)
        sₜ = (1 - z) h + z s

    Parameters
    ----------
    gate_activation : str or Activation
        The activation σ of the gates.
    need_grad : bool
        Whether the parameters are trained. If not, their gradients are `None`, and
        :meth:`backward` returns only the gradient in the input.
    **kwargs
        `n_out` and the other arguments of :class:`Recurrent`.

    Attributes
    ----------
    U_r, U_z, U_h, W_r, W_z, W_h, b_r, b_z, b_h : array
        Parameters, in this order: three of (n_in, n_out), three of (n_out, n_out), and three of
        (n_out,).
    dU_r, ... : array
        Their gradients, summed over the batch.

    References
    ----------
    Cho et al.: Learning phrase representations using RNN encoder-decoder for statistical machine
    translation, 2014, equations 5 to 8.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> layer = npdl.layers.GRU(n_out=8, n_in=4, return_sequence=True)
    >>> layer.connect_to()
    >>> layer.forward(np.zeros((2, 5, 4))).shape
    (2, 5, 8)
    """

    U_r, U_z, U_h = (Parameter("weight", block=(i, 3)) for i in range(3))
    W_r, W_z, W_h = (Parameter("recurrent_weight", block=(i, 3)) for i in range(3))
    b_r, b_z, b_h = (Parameter("bias", block=(i, 3)) for i in range(3))

    def __init__(
        self, gate_activation: Any = "sigmoid", need_grad: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(gate_activation, need_grad, **kwargs)

    def _build(self, shape: Shape) -> F.Layer:
        return F.gru(reset_after=False, **self._functional_arguments())
