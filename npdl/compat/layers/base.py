"""The protocol of stateful layers, and the base class of layers with a functional layer.

A layer is created without sizes, then connected to the layer before it, then called:

>>> import numpy as np
>>> import npdl
>>> layer = npdl.layers.Dense(n_out=2, n_in=3, activation="linear")
>>> layer.connect_to()
>>> output = layer.forward(np.ones((4, 3)))
>>> layer.backward(np.ones((4, 2))).shape
(4, 3)
>>> [array.shape for array in layer.grads]
[(3, 2), (2,)]

The gradient of a parameter is the sum over the batch. Your own layer is a subclass of
:class:`Layer`. The layers of this package are subclasses of :class:`Stateful`. It holds a layer of
`npdl.functional`, its parameters and the last cache, and calls its functions.
"""

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, ClassVar

import numpy as np

import npdl.functional as F
from npdl import tree
from npdl.compat._keras_arguments import ABSENT
from npdl.compat._named import Named
from npdl.compat.layers._attributes import Absent, Derived, Parameter
from npdl.compat.layers._sizes import shape_before
from npdl.compat.layers._weights import set_weights, weights_of
from npdl.compat.utils.random import check_numbers, get_dtype, new_key
from npdl.functional._arrays import describe, plain_array
from npdl.functional._checks import check_flag
from npdl.functional._layer import Shape

__all__ = ["Layer", "Parameter", "Stateful", "without_caches"]

_keep_cache: ContextVar[bool] = ContextVar("keep_cache", default=True)


@contextlib.contextmanager
def without_caches() -> Iterator[None]:
    """Compute only outputs in the context, because no backward pass follows."""
    token = _keep_cache.set(False)
    try:
        yield
    finally:
        _keep_cache.reset(token)


def _snake_case(name: str) -> str:
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Layer(Named):
    """A layer of a network: the base class of your own layers.

    Attributes
    ----------
    out_shape : tuple or None
        The shape of the output, set by :meth:`connect_to`. The first entry is the batch size, often
        `None`.
    first_layer : bool
        Whether no trained layer comes before, so that :meth:`backward` need not return a gradient.
    trainable : bool
        Whether a model trains the parameters; set by the constructor or by assignment.
    name : str
        The name for ``model.get_layer``; by default, the class name in snake case.
    output_shape : tuple or None
        Alias of `out_shape`.
    weights : list of arrays
        The arrays of the layer (not copies), in the order of :meth:`get_weights`.

    Examples
    --------
    >>> from npdl.layers import Layer
    >>> import numpy as np
    >>> import npdl
    >>> class Doubled(Layer):
    ...     def connect_to(self, prev_layer):
    ...         self.out_shape = prev_layer.out_shape
    ...     def forward(self, input, *args, **kwargs):
    ...         return 2 * input
    ...     def backward(self, pre_grad, *args, **kwargs):
    ...         return 2 * pre_grad
    >>> model = npdl.Model([npdl.layers.Dense(n_out=2, n_in=3), Doubled()])
    >>> model.compile(loss="mse")
    >>> model.predict(np.ones((5, 3))).shape
    (5, 2)
    """

    family = "layers"
    options: ClassVar[tuple[str, ...]] = ("name", "trainable")
    first_layer: bool = False
    out_shape: Any = None
    # A model trains a layer unless this is False.
    trainable: Any = True
    name = Derived(lambda layer: _snake_case(type(layer).__name__))
    output_shape = Derived(lambda layer: layer.out_shape)
    weights = Derived(lambda layer: weights_of(layer))

    def __init__(self) -> None:
        """Accept the options of all layers, `name` and `trainable`, by keyword."""

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            The input, the batch first.
        """
        raise NotImplementedError(f"{self}.forward")

    def backward(self, pre_grad: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient in the input; store the parameter gradients in :attr:`grads`.

        Parameters
        ----------
        pre_grad : array
            The gradient in the output of the last :meth:`forward`.
        """
        raise NotImplementedError(f"{self}.backward")

    def connect_to(self, prev_layer: Any) -> None:
        """Initialize the parameters for the output of the layer before.

        Parameters
        ----------
        prev_layer : Layer
            Any object with an attribute ``out_shape``.
        """
        raise NotImplementedError(f"{self}.connect_to")

    @property
    def params(self) -> list[Any]:
        """The parameter arrays; empty for a layer without parameters."""
        return []

    @property
    def grads(self) -> list[Any]:
        """The parameter gradients of the last :meth:`backward`, in the order of :attr:`params`."""
        return []

    @property
    def param_grads(self) -> list[tuple[Any, Any]]:
        """The pairs of parameter and gradient."""
        return list(zip(self.params, self.grads, strict=True))

    def get_weights(self) -> list[Any]:
        """Return copies of the layer's arrays: its `params`, then its untrained arrays."""
        return [np.array(array) for array in weights_of(self)]

    def set_weights(self, weights: Any) -> None:
        """Set the layer's arrays.

        Parameters
        ----------
        weights : list of arrays
            Arrays in the order of :meth:`get_weights`, which are copied.

        Raises
        ------
        ValueError
            If the number of arrays or a shape differs; the layer is then unchanged.
        """
        set_weights(str(self), [self], weights)


class Stateful(Layer):
    """A functional layer with a state: its parameters, the last cache and the last gradients.

    A subclass returns its functional layer in `_build(shape)`, and defines attributes for its
    arrays with :class:`Parameter`.

    Attributes
    ----------
    functional : npdl.functional.Layer
        The functional layer, set by :meth:`connect_to`.
    tree, gradients : tree
        Its parameters, and their gradients of the last :meth:`backward`.
    cache
        The cache of the last :meth:`forward` for :meth:`backward`.
    """

    # Attributes that subclasses override.
    parameter_names: tuple[str, ...] = ()
    # A constructor call as first layer of a model, for messages; empty if it cannot be the first.
    usage: ClassVar[str] = ""
    # The number of last axes of the input whose sizes must be known to connect the layer.
    known_axes: ClassVar[int] = 0
    # The constructor arguments with weights, which are not in the configuration.
    weight_arguments: ClassVar[tuple[str, ...]] = ()
    # Whether the parameters are trained, unless `trainable` is set.
    trainable_by_default: bool = True
    # Whether each training step needs a key, drawn from the generator.
    needs_key: ClassVar[bool] = False

    options = (*Layer.options, "input_shape")

    # The last sizes of the input, from the constructor.
    input_sizes: tuple[Any, ...] = ()
    input_shape: Any = None
    output_shape = property(lambda self: self.out_shape)
    weights = property(weights_of)

    shape: Shape | None = None
    functional: Any = None
    tree: Any = None
    gradients: Any = None
    cache: Any = None
    dtype: Any = None
    # The shape of the last output; None before the first forward pass.
    last_shape: tuple[int, ...] | None = None

    @property
    def trainable(self) -> bool:
        """Whether the parameters are trained; if not, the functional layer is frozen (`F.freeze`).

        An assignment takes effect at the next update, without another compile.
        """
        return vars(self).get("trainable", self.trainable_by_default)  # type: ignore[no-any-return]

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{self}.trainable must be True or False, got {value!r}")
        vars(self)["trainable"] = bool(value)
        self._rebuild()

    def _rebuild(self) -> None:
        """Rebuild the functional layer; the parameters are unchanged."""
        if self.functional is not None:
            self.functional = self._build_frozen(self.shape or ())
            self.gradients = self.cache = self.last_shape = None

    def _set_options(self, options: Any) -> None:
        super()._set_options(options)
        if options.get("input_shape") is not None:
            self.input_sizes = tuple(options["input_shape"])

    def _build(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of shape `shape`, without the batch axis."""
        raise NotImplementedError(f"{self}._build")

    def _build_frozen(self, shape: Shape) -> F.Layer:
        """Return the layer of `_build(shape)`, frozen if it is not trained."""
        layer = self._build(shape)
        return layer if self.trainable else F.freeze(layer)

    def pure(self) -> F.Layer:
        """Return the functional layer with one input, one output and the exact derivative."""
        return self.functional  # type: ignore[no-any-return]

    def pure_params(self) -> Any:
        """Return the parameters of :meth:`pure`."""
        return self.tree

    def _initial_params(self, layer: F.Layer, shape: Shape) -> Any:
        """Return the initial parameters of a layer for examples of shape `shape`."""
        return tree.astype(layer.init(new_key(), shape), get_dtype())

    def _saved_arguments(self) -> dict[str, Any]:
        arguments = super()._saved_arguments()
        return {key: item for key, item in arguments.items() if key not in self.weight_arguments}

    def connect_to(self, prev_layer: Any = None) -> None:
        """Initialize the parameters for the output of the layer before.

        A connected layer keeps its parameters if their shapes stay the same.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``; omitted for a first layer with a known input
            size.

        Raises
        ------
        ValueError
            If the size of the input is unknown.

        Warns
        -----
        UserWarning
            If the input size of the constructor differs from the output of the layer before, which
            is used.
        """
        batch, *sizes = shape_before(
            self, prev_layer, self.input_sizes, self.known_axes, self.usage
        )
        self._initialize(tuple(sizes))
        self.out_shape = (batch, *self.functional.out_shape(tuple(sizes)))

    def _initialize(self, shape: Shape) -> None:
        """Build the layer for examples of a shape; keep the parameters if their shapes fit."""
        layer = self._build_frozen(shape)
        params = self._initial_params(layer, shape)
        if tree.map(np.shape, self.tree) != tree.map(np.shape, params):
            # A writable copy, owned by this layer.
            self.tree = tree.map(lambda array: np.array(array, order="C"), params)
        self.shape, self.functional = shape, layer
        names = type(self).parameter_names
        self.parameter_names = tuple(name for name in names if getattr(self, name) is not None)
        self.gradients = self.cache = self.last_shape = None
        self.dtype = next((leaf.dtype for leaf in tree.leaves(self.tree)), None)

    def forward(self, input: Any, *args: Any, train: bool = True, **kwargs: Any) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            The input, the batch first.
        train : bool
            Whether to run in training mode: dropout is active, running statistics are updated.
        """
        return self._apply(self._as_input(input), train)

    def _apply(self, x: Any, train: Any) -> Any:
        if self.functional is None:
            raise RuntimeError(f"{self}.forward: call connect_to(...) first")
        if type(train) is not bool:
            train = check_flag(train, f"{type(self).__name__}.forward(x, train=False)")
        rng = new_key() if train and self.needs_key else None
        keep = train or _keep_cache.get()
        try:
            y, cache = self.functional.apply(self.tree, x, train=train, rng=rng, keep_cache=keep)
        except Exception as error:
            error.add_note(f"in {self}.forward, given {describe(x)}")
            raise
        if train:
            self.tree = self.functional.update_stats(self.tree, cache)
        self.cache, self.last_shape = None, None
        if keep:
            self.cache, self.last_shape = cache, (y[0] if isinstance(y, tuple) else y).shape
        return y

    def _as_input(self, input: Any) -> Any:
        """Return the input as an array in the data type of the parameters."""
        x = check_numbers(type(self).__name__, plain_array(input, type(self).__name__))
        if self.dtype is not None:
            return x.astype(self.dtype, copy=False)
        return x if x.dtype.kind == "f" else x.astype(get_dtype())

    def backward(self, pre_grad: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient in the input; store the parameter gradients in `grads`.

        Parameters
        ----------
        pre_grad : array
            The gradient in the output of the last :meth:`forward`.

        Returns
        -------
        array or None
            The gradient in the input; `None` for the first layer of a model.
        """
        return self._backward(self._as_gradient(pre_grad, self.last_shape))

    def _as_gradient(self, pre_grad: Any, shape: Any) -> Any:
        """Return the gradient as an array in the data type of the parameters; check its shape."""
        if shape is None:
            raise RuntimeError(f"{self}.backward: call forward(...) first")
        if np.shape(pre_grad) != shape:
            raise ValueError(
                f"{self}.backward: expected a gradient of the shape {shape}, got one of the shape "
                f"{np.shape(pre_grad)}"
            )
        return Stateful._as_input(self, pre_grad)

    def _backward(self, g: Any) -> Any:
        self.gradients, dx = self.functional.backward(
            self.tree, self.cache, g, input_grad=not self.first_layer
        )
        return dx

    @property
    def params(self) -> list[Any]:
        """The parameter arrays; empty for a layer without parameters."""
        return [getattr(self, name) for name in self.parameter_names]

    @property
    def grads(self) -> list[Any]:
        """The parameter gradients of the last :meth:`backward`, in the order of :attr:`params`.

        A gradient is `None` before the first backward pass, and for an untrained parameter.
        """
        return [getattr(self, f"d{name}") for name in self.parameter_names]


for _name in ABSENT:
    if _name.endswith(("_regularizer", "_constraint")):
        setattr(Stateful, _name, Absent(_name))
