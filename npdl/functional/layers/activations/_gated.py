"""Gated activations: one half of the features is multiplied by a function of the other half."""

from typing import Any

import numpy as np

from npdl import tree
from npdl.functional._arrays import check_example, check_float, describe
from npdl.functional._checks import refusal
from npdl.functional._layer import Layer, Params, Shape, layer, no_params
from npdl.functional.layers.activations._bounded import sigmoid
from npdl.functional.layers.activations._rectifiers import silu
from npdl.tree import Array

__all__ = ["glu", "swiglu"]


@layer
def glu(activation: Layer = sigmoid()) -> Layer:  # noqa: B008 - an immutable value
    """Gated linear unit: ``y = a · σ(b)``, where a and b are the halves of the last axis.

    Parameters
    ----------
    activation : Layer
        An elementwise activation in place of σ, such as :func:`gelu` for GEGLU.

    Returns
    -------
    Layer
        From (batch, ..., 2 · features) to (batch, ..., features).

    Raises
    ------
    ValueError
        If the number of features is odd, or if the activation has parameters.

    References
    ----------
    Dauphin, Fan, Auli, Grangier: Language modeling with gated convolutional networks, 2016,
    equation 1; for other activations, Shazeer: GLU variants improve transformer, 2020, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.glu()((), np.array([[3.0, 5.0, 0.0, 100.0]]))
    array([[1.5, 5. ]])
    """
    call = "glu(activation=silu())"
    if not isinstance(activation, Layer):
        raise TypeError(refusal(activation, call, "a layer"))
    if tree.leaves(activation.init(0, (1,))):
        raise ValueError(refusal(activation, call, "a layer without parameters"))

    def apply(params: Params, x: Array) -> tuple[Array, Any]:
        check_float(x, "glu")
        if not x.ndim or x.shape[-1] % 2:
            raise ValueError(f"glu: expected an even number of features, got {describe(x)}")
        half = x.shape[-1] // 2
        linear = x[..., :half]
        gate, cache = activation.apply((), x[..., half:])
        return linear * gate, (linear, gate, cache)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[None, Array | None]:
        if not input_grad:
            return None, None
        linear, gate, kept = cache
        half = linear.shape[-1]
        dx = np.empty((*linear.shape[:-1], 2 * half), g.dtype)
        np.multiply(g, gate, out=dx[..., :half])
        dx[..., half:] = activation.backward((), kept, g * linear)[1]
        return None, dx

    def out_shape(shape: Shape) -> Shape:
        check_example("glu", shape, known=1)
        if shape[-1] % 2:
            raise ValueError(f"glu: expected an even number of features, got the shape {shape}")
        return (*shape[:-1], shape[-1] // 2)

    return Layer(no_params, apply, backward, out_shape, step=True)


@layer
def swiglu() -> Layer:
    """Gated linear unit with SiLU, as in Llama: ``y = a · b σ(b)``.

    The halves of the last axis are a and b. In Llama's names, a is the output of ``up_proj``, and b
    of ``gate_proj``.

    Returns
    -------
    Layer
        From (batch, ..., 2 · features) to (batch, ..., features).

    Raises
    ------
    ValueError
        If the number of features is odd.

    References
    ----------
    Shazeer: GLU variants improve transformer, 2020, equation 6.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.swiglu()((), np.array([[3.0, 5.0, 0.0, 100.0]]))
    array([[  0., 500.]])
    """
    return glu(silu())
