"""A trained first step of a sequence, which collects information about the others."""

from typing import Any

import numpy as np

from npdl.functional._arrays import check_example, check_float, check_params, describe
from npdl.functional._checks import check_function
from npdl.functional._initializers import Initializer, normal
from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._layer import Layer, Params, Shape, layer, no_params
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["class_token", "first_step"]


@layer
def class_token(
    *,
    token_init: Initializer = normal(0.02),  # noqa: B008 - an immutable value
) -> Layer:
    """Put one trained step before the first step: ``y = [a, x₁, x₂, …]``.

    Attention collects information about all steps in it. :func:`first_step` returns it.

    Parameters
    ----------
    token_init : Initializer
        Initial values; from N(0, 0.02²) by default, as in ViT.

    Returns
    -------
    Layer
        From (batch, time, features) to (batch, time + 1, features). Parameters: ``token``
        (features,).

    References
    ----------
    Devlin, Chang, Lee, Toutanova: BERT, 2018, section 3; Dosovitskiy et al.: An image is worth
    16x16 words, 2020, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.class_token()
    >>> params = model.init(0, (5, 8))
    >>> model(params, np.ones((2, 5, 8), np.float32)).shape
    (2, 6, 8)
    """
    check_function(token_init, "class_token(token_init=normal(0.02))")

    def init(rng: KeyLike, shape: Shape) -> Params:
        check_example("class_token", shape, "(time, features)", axes=2, known=1)
        return {"token": token_init(fold(rng, "token"), (shape[1],))}

    def apply(params: Params, x: Array) -> tuple[Array, None]:
        _check_sequence("class_token", x)
        check_params("class_token", params, {"token": x.shape[2:]})
        token = params["token"]
        check_float(x, "class_token", token.dtype)
        y = np.empty((x.shape[0], x.shape[1] + 1, x.shape[2]), x.dtype)
        y[:, 0] = token
        y[:, 1:] = x
        return y, None

    def backward(
        params: Params, cache: None, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Array | None]:
        return {"token": sum_of_rows(g[:, 0])}, g[:, 1:] if input_grad else None

    def out_shape(shape: Shape) -> Shape:
        check_example("class_token", shape, "(time, features)", axes=2, known=1)
        time, features = shape
        return (None if time is None else time + 1, features)

    return Layer(init, apply, backward, out_shape)


@layer
def first_step() -> Layer:
    """Return the first step of a sequence: ``y = x₁``, such as the output at a class token.

    Returns
    -------
    Layer
        From (batch, time, features) to (batch, features).

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.first_step()((), np.arange(6.0).reshape(1, 3, 2))
    array([[0., 1.]])
    """

    def apply(params: Params, x: Array) -> tuple[Array, Any]:
        _check_sequence("first_step", x)
        if not x.shape[1]:
            raise ValueError(f"first_step: expected a time of one step or more, got {describe(x)}")
        return x[:, 0], x.shape

    def backward(params: Params, shape: Any, g: Array) -> tuple[None, Array]:
        dx = np.zeros(shape, g.dtype)
        dx[:, 0] = g
        return None, dx

    def out_shape(shape: Shape) -> Shape:
        check_example("first_step", shape, "(time, features)", axes=2, known=1)
        return tuple(shape[1:])

    return Layer(no_params, apply, backward, out_shape)


def _check_sequence(name: str, x: Any) -> None:
    check_float(x, name)
    if x.ndim != 3:
        raise ValueError(f"{name}: expected (batch, time, features), got {describe(x)}")
