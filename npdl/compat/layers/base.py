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
:class:`Layer`; those here are subclasses of :class:`Functional`, which holds a layer of
`npdl.functional`, its parameters and the last cache, and has no arithmetic of its own.
"""

from typing import Any, ClassVar

import numpy as np

import npdl.functional as F
from npdl import tree
from npdl.compat.named import Named
from npdl.compat.utils.random import get_dtype, new_key

__all__ = ["Functional", "Layer", "Parameter"]

Array = np.ndarray[Any, Any]


class Layer(Named):
    """A layer of a network: the base class of layers of your own.

    Attributes
    ----------
    out_shape : tuple or None
        The shape of the output, whose first entry is the batch, often `None`; known after
        :meth:`connect_to`.
    first_layer : bool
        Whether nothing comes before, so that :meth:`backward` need not return a gradient.
    """

    family = "layers"
    first_layer: bool = False
    out_shape: Any = None

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

    def connect_to(self, prev_layer: Any = None) -> None:
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

    def __str__(self) -> str:
        return type(self).__name__


class Parameter:
    """An attribute of a :class:`Functional` layer: an array of its tree, or a block of one.

    Beside an attribute ``W`` stands ``dW``, its gradient. Assigning copies numbers into the layer's
    array, so that the array that was given stays its owner's.

    Parameters
    ----------
    path : str
        Where the array is in the tree, such as ``"0/weight"``.
    block : pair of ints, optional
        Which of how many equal blocks of the last axis it is.
    trained : bool
        Whether it is one of the layer's `params`.
    """

    def __init__(self, path: str, block: tuple[int, int] = (0, 1), trained: bool = True) -> None:
        self.path, self.block, self.trained = path, block, trained

    def __set_name__(self, owner: type["Functional"], name: str) -> None:
        self.name = name
        if self.trained:
            owner.parameter_names = (*owner.parameter_names, name)
            setattr(owner, f"d{name}", property(self._gradient))

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        return self if layer is None else self._of(layer, layer.tree, "connect_to(...)")

    def __set__(self, layer: Any, value: Any) -> None:
        array, given = self.__get__(layer), np.asarray(value)
        if given.shape != array.shape:
            raise ValueError(
                f"{layer}.{self.name} has the shape {array.shape}, got an array of {given.shape}"
            )
        array[...] = given

    def _gradient(self, layer: Any) -> Any:
        return self._of(layer, layer.gradients, "backward(...)")

    def _of(self, layer: Any, node: Any, call: str) -> Any:
        for key in self.path.split("/"):
            if node is None:
                raise AttributeError(f"{layer} has no {self.name} yet: call {call} first")
            node = node[int(key) if key.isdigit() else key]
        if node is None or self.block == (0, 1):
            return node
        number, count = self.block
        size = node.shape[-1] // count
        return node[..., number * size : (number + 1) * size]


class Functional(Layer):
    """A layer of `npdl.functional` with a state: its parameters, the last cache and gradients.

    Parameters
    ----------
    layer : npdl.functional.Layer, optional
        The layer. Subclasses make theirs in :meth:`make`.
    params : tree, optional
        Its parameters, which are copied; left out, :meth:`connect_to` makes them.
    input_shape : tuple, optional
        The shape of one example, without the batch, for the first layer of a model.

    Examples
    --------
    >>> import npdl
    >>> import npdl.functional as F
    >>> layer = npdl.layers.Functional(F.layer_norm(), input_shape=(8,))
    >>> layer.connect_to()
    >>> layer.out_shape
    (None, 8)
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()
    dtype: Any = None

    def __init__(
        self,
        layer: F.Layer | None = None,
        params: Any = None,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.layer = layer
        self.functional: Any = None  # what make() returns, once the sizes are known
        self.tree = None if params is None else _owned(params)
        self.input_shape = input_shape
        # Whether training needs a key, which is then drawn from the generator at each step.
        self.draws = layer is not None
        self.cache: Any = _NOTHING
        self.gradients: Any = None
        self.batch: int | None = None

    def make(self, shape: tuple[Any, ...]) -> F.Layer:
        """Return the functional layer for examples of a shape, without the batch."""
        if not isinstance(self.layer, F.Layer):
            raise TypeError(
                f"{self}: expected a layer of npdl.functional, as in Functional(F.relu()), got "
                f"{self.layer!r}"
            )
        return self.layer

    def connect_to(self, prev_layer: Any = None) -> None:
        """Make the parameters, of the sizes that the layer before asks for.

        Parameters
        ----------
        prev_layer : Layer, optional
            Any object with an attribute ``out_shape``; left out for a first layer, which has been
            told its input's size.
        """
        shape = self._input_shape(prev_layer)
        layer = self.make(shape)
        out_shape = layer.out_shape(shape)
        if self.tree is None:
            self.tree = _owned(tree.astype(layer.init(new_key(), shape), get_dtype()))
        self.functional, self.out_shape = layer, (self.batch, *out_shape)
        self.dtype = next((leaf.dtype for leaf in tree.leaves(self.tree)), None)

    def _input_shape(self, prev_layer: Any) -> tuple[Any, ...]:
        if prev_layer is not None:
            if getattr(prev_layer, "out_shape", None) is None:
                raise ValueError(
                    f"{self}.connect_to: {prev_layer} has no out_shape; connect it first"
                )
            self.batch = prev_layer.out_shape[0]
            return tuple(prev_layer.out_shape[1:])
        if self.input_shape is None:
            raise ValueError(self._first_layer_hint())
        return tuple(self.input_shape)

    def _first_layer_hint(self) -> str:
        return f"{self}: a first layer needs the size of its input, as in {self}(input_shape=(8,))"

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

    def _apply(self, x: Any, train: bool = True) -> Any:
        if self.out_shape is None:
            raise RuntimeError(f"{self}.forward: call connect_to(...) first")
        rng = new_key() if train and self.draws else None
        y, self.cache = self.functional.apply(self.tree, x, train=train, rng=rng)
        return y

    def _as_input(self, input: Any) -> Any:
        """Return an array in the data type of the parameters."""
        x = np.asarray(input)
        wanted = self.dtype or (x.dtype if x.dtype.kind == "f" else get_dtype())
        return x.astype(wanted, copy=False)

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
        return self._backward(self._as_input(pre_grad))

    def _backward(self, g: Any) -> Any:
        if self.cache is _NOTHING:
            raise RuntimeError(f"{self}.backward: call forward(...) first")
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
        """The gradients of the parameters from the last :meth:`backward`, in their order."""
        return [getattr(self, f"d{name}") for name in self.parameter_names]


# The cache before the first forward; None is the cache of some layers.
_NOTHING = object()


def _owned(params: Any) -> Any:
    """Return a copy whose arrays may be written: the state of this layer alone."""
    return tree.map(np.array, params)
