"""The protocol of stateful layers, and the layer that keeps a functional one.

A layer is made without sizes, connected to the one before it, and then goes forward and back:

>>> import numpy as np
>>> import npdl
>>> layer = npdl.layers.Dense(n_out=2, n_in=3, activation="linear")
>>> layer.connect_to()
>>> output = layer.forward(np.ones((4, 3)))
>>> layer.backward(np.ones((4, 2))).shape
(4, 3)
>>> [array.shape for array in layer.grads]
[(3, 2), (2,)]

The gradient of a parameter is the sum over the batch. A layer of your own is a subclass of
:class:`Layer`; those here are subclasses of :class:`Stateful`, which holds a layer of
`npdl.functional`, its parameters and the last cache, and has no arithmetic of its own.
"""

import re
from typing import Any, ClassVar

import numpy as np

import npdl.functional as F
from npdl import tree
from npdl.compat._habits import ABSENT
from npdl.compat._named import Named
from npdl.compat.layers._attributes import Absent, Derived, Parameter
from npdl.compat.layers._sizes import Shape, shape_before
from npdl.compat.layers._weights import set_weights, weights_of
from npdl.compat.utils.random import check_numbers, get_dtype, new_key
from npdl.functional._checks import check_flag
from npdl.functional._layer import describe, plain_array

__all__ = ["Layer", "Parameter", "Stateful"]


def _snake_case(name: str) -> str:
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Layer(Named):
    """A layer of a network: the base class of layers of your own.

    Attributes
    ----------
    out_shape : tuple or None
        The shape of the output, whose first entry is the batch, often `None`; known after
        :meth:`connect_to`.
    first_layer : bool
        Whether nothing comes before, so that :meth:`backward` need not return a gradient.
    trainable : bool
        Whether a model changes the parameters; it can be set at any time, also by the constructor.
    name : str
        The name for ``model.get_layer``; the class in small letters by default.
    output_shape : tuple or None
        The same as `out_shape`.
    weights : list of arrays
        The arrays themselves, in the order of :meth:`get_weights`.

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
    # A model trains the layers for which this is not False.
    trainable: Any = True
    name = Derived(lambda layer: _snake_case(type(layer).__name__))
    output_shape = Derived(lambda layer: layer.out_shape)
    weights = Derived(lambda layer: weights_of(layer))

    def __init__(self) -> None:
        """Take the options of all layers, `name` and `trainable`, by keyword."""

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the output for an input.

        Parameters
        ----------
        input : array
            The input, the batch first.
        """
        raise NotImplementedError(f"{self}.forward")

    def backward(self, pre_grad: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient in the input, and keep those of the parameters in :attr:`grads`.

        Parameters
        ----------
        pre_grad : array
            The gradient in the output of the last :meth:`forward`.
        """
        raise NotImplementedError(f"{self}.backward")

    def connect_to(self, prev_layer: Any) -> None:
        """Make the parameters, of the sizes that the layer before asks for.

        Parameters
        ----------
        prev_layer : Layer
            Any object with an attribute ``out_shape``.
        """
        raise NotImplementedError(f"{self}.connect_to")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration: the class and its arguments, as JSON values."""
        if type(self) is Layer:
            raise NotImplementedError("Layer.to_json")
        return super().to_json()

    @property
    def params(self) -> list[Any]:
        """The arrays of the parameters; empty, where there are none."""
        return []

    @property
    def grads(self) -> list[Any]:
        """The gradients of the parameters from the last :meth:`backward`, in their order."""
        return []

    @property
    def param_grads(self) -> list[tuple[Any, Any]]:
        """Each parameter with its gradient."""
        return list(zip(self.params, self.grads, strict=True))

    def get_weights(self) -> list[Any]:
        """Return copies of the layer's arrays: its `params`, then those that are not trained."""
        return [np.array(array) for array in weights_of(self)]

    def set_weights(self, weights: Any) -> None:
        """Set the layer's arrays.

        Parameters
        ----------
        weights : list of arrays
            In the order of :meth:`get_weights`; they are copied.

        Raises
        ------
        ValueError
            If the number of arrays or a shape differs; the layer is then as it was.
        """
        set_weights(str(self), [self], weights)


class Stateful(Layer):
    """A functional layer with a state: its parameters, the last cache and the last gradients.

    A subclass says in :meth:`make` which layer, and names its arrays with :class:`Parameter`.

    Attributes
    ----------
    functional : npdl.functional.Layer
        The layer; known after :meth:`connect_to`.
    tree, gradients : tree
        Its parameters, and their gradients from the last :meth:`backward`.
    cache
        What the last :meth:`forward` kept for :meth:`backward`.
    """

    # What a subclass says of itself.
    parameter_names: tuple[str, ...] = ()
    # How to write it as the first layer of a model; empty, where it cannot be the first.
    as_first: ClassVar[str] = ""
    # How many of the last sizes of its input must be known to connect it.
    known_axes: ClassVar[int] = 0
    # The arguments that hold weights, and so are no part of the configuration.
    weights_given: ClassVar[tuple[str, ...]] = ()
    # Whether the parameters are trained, until `trainable` is set.
    trained_at_first: bool = True
    # Whether training needs a key, which is then drawn from the generator at each step.
    draws: ClassVar[bool] = False

    options = (*Layer.options, "input_shape")

    # What the constructor was told of the last sizes of the input.
    told: tuple[Any, ...] = ()
    input_shape: Any = None
    output_shape = property(lambda self: self.out_shape)
    weights = property(weights_of)

    shape: Shape | None = None
    functional: Any = None
    tree: Any = None
    gradients: Any = None
    cache: Any = None
    dtype: Any = None
    # The shape of the last output; None before the first forward.
    last_shape: tuple[int, ...] | None = None

    @property
    def trainable(self) -> bool:
        """Whether the parameters are trained; if not, the functional layer is ``F.freeze`` of it.

        An assigned value counts from the next step on, without another compile.
        """
        return vars(self).get("trainable", self.trained_at_first)  # type: ignore[no-any-return]

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{self}.trainable must be True or False, got {value!r}")
        vars(self)["trainable"] = bool(value)
        self._renew()

    def _renew(self) -> None:
        """Make the functional layer anew; parameters stay."""
        if self.functional is not None:
            self.functional = self.made(self.shape or ())
            self.gradients = self.cache = self.last_shape = None

    def _take(self, options: Any) -> None:
        super()._take(options)
        if options.get("input_shape") is not None:
            self.told = tuple(options["input_shape"])

    def make(self, shape: Shape) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        raise NotImplementedError(f"{self}.make")

    def made(self, shape: Shape) -> F.Layer:
        """Return the layer of :meth:`make`, frozen unless it is trained."""
        layer = self.make(shape)
        return layer if self.trainable else F.freeze(layer)

    def pure(self) -> F.Layer:
        """Return the functional layer from one input to one output, with its exact derivative."""
        return self.functional  # type: ignore[no-any-return]

    def pure_params(self) -> Any:
        """Return the parameters of :meth:`pure`."""
        return self.tree

    def initial(self, layer: F.Layer, shape: Shape) -> Any:
        """Return the initial parameters of a layer for examples of a shape."""
        return tree.astype(layer.init(new_key(), shape), get_dtype())

    def to_json(self) -> dict[str, Any]:
        """Return the configuration: the class and its arguments, as JSON values, no weights."""
        config = super().to_json()
        return {name: value for name, value in config.items() if name not in self.weights_given}

    def _encoded(self, name: str, value: Any) -> Any:
        return None if name in self.weights_given else super()._encoded(name, value)

    def connect_to(self, prev_layer: Any = None) -> None:
        """Make the parameters, of the sizes that the layer before asks for.

        A layer that has been connected before keeps those whose shapes are still right.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``; left out for a first layer, which has been
            told its input's size.

        Raises
        ------
        ValueError
            If the size of the input is not known.

        Warns
        -----
        UserWarning
            If the layer was told another size than the layer before has, which counts.
        """
        batch, *sizes = shape_before(self, prev_layer, self.told, self.known_axes, self.as_first)
        self._hold(tuple(sizes))
        self.out_shape = (batch, *self.functional.out_shape(tuple(sizes)))

    def _hold(self, shape: Shape) -> None:
        """Take a layer for examples of a shape, with new parameters unless there are such."""
        layer = self.made(shape)
        params = self.initial(layer, shape)
        if tree.map(np.shape, self.tree) != tree.map(np.shape, params):
            # The copy may be written: it is the state of this layer alone.
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
            Whether this is training, where dropout drops and statistics are gathered.
        """
        return self._apply(self._as_input(input), train)

    def _apply(self, x: Any, train: Any) -> Any:
        if self.functional is None:
            raise RuntimeError(f"{self}.forward: call connect_to(...) first")
        if type(train) is not bool:
            train = check_flag(train, f"{type(self).__name__}.forward(x, train=False)")
        rng = new_key() if train and self.draws else None
        try:
            y, self.cache = self.functional.apply(self.tree, x, train=train, rng=rng)
        except Exception as error:
            error.add_note(f"in {self}.forward, given {describe(x)}")
            raise
        if train:
            self.tree = self.functional.update_stats(self.tree, self.cache)
        self.last_shape = (y[0] if isinstance(y, tuple) else y).shape
        return y

    def _as_input(self, input: Any) -> Any:
        """Return an array in the data type of the parameters."""
        x = check_numbers(type(self).__name__, plain_array(input, type(self).__name__))
        if self.dtype is not None:
            return x.astype(self.dtype, copy=False)
        return x if x.dtype.kind == "f" else x.astype(get_dtype())

    def backward(self, pre_grad: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient in the input, and keep those of the parameters in `grads`.

        Parameters
        ----------
        pre_grad : array
            The gradient in the output of the last :meth:`forward`.

        Returns
        -------
        array or None
            The gradient in the input; `None`, if this is the first layer of a model.
        """
        return self._backward(self._as_gradient(pre_grad, self.last_shape))

    def _as_gradient(self, pre_grad: Any, shape: Any) -> Any:
        """Return an array in the data type of the parameters, which has that shape."""
        if shape is None:
            raise RuntimeError(f"{self}.backward: call forward(...) first")
        if np.shape(pre_grad) != shape:
            raise ValueError(
                f"{self}.backward: expected the gradient in an array of the shape {shape}, got "
                f"one of the shape {np.shape(pre_grad)}"
            )
        return Stateful._as_input(self, pre_grad)

    def _backward(self, g: Any) -> Any:
        self.gradients, dx = self.functional.backward(
            self.tree, self.cache, g, input_grad=not self.first_layer
        )
        return dx

    @property
    def params(self) -> list[Any]:
        """The arrays of the parameters; empty, where there are none."""
        return [getattr(self, name) for name in self.parameter_names]

    @property
    def grads(self) -> list[Any]:
        """The gradients of the parameters from the last :meth:`backward`, in their order.

        Each is `None` before that, and where a parameter is not trained.
        """
        return [getattr(self, f"d{name}") for name in self.parameter_names]


for _name in ABSENT:
    if _name.endswith(("_regularizer", "_constraint")):
        setattr(Stateful, _name, Absent(_name))
