"""A sequence of layers: connection, forward pass and backward pass."""

import inspect
import operator
from collections.abc import Callable
from typing import Any

from npdl.compat._checks import Array, check_axes
from npdl.compat.activations import Softmax
from npdl.compat.layers._functional import Functional
from npdl.compat.layers.base import Layer
from npdl.compat.objectives import SCCE, Objective
from npdl.compat.optimizers import Optimizer

__all__ = ["Stack"]


class Stack:
    """Methods of a model for its sequence of layers."""

    layers: list[Layer]
    loss: Objective | None
    optimizer: Optimizer | None
    _connected: list[Layer]
    input_shape: Any

    def add(self, layer: Any) -> None:
        """Append a layer.

        Parameters
        ----------
        layer : Layer
            A layer of `npdl.layers`, or an instance of your own subclass of
            :class:`npdl.layers.Layer`.

        Raises
        ------
        TypeError
            If it is not a layer.
        ValueError
            If the model already has this layer.
        """
        if not isinstance(layer, Layer):
            raise TypeError(
                f"Model.add: expected a layer, such as npdl.layers.Dense(n_out=10), got {layer!r}; "
                f"wrap a layer of npdl.functional as npdl.layers.Functional(...)"
            )
        if any(layer is other for other in self.layers):
            raise ValueError(f"Model.add: this {layer} is already in the model; create a new one")
        self.layers.append(layer)

    def _connect(self) -> None:
        """Connect the layers, starting at the first one with a changed position."""
        changed = False
        for i, layer in enumerate(self.layers):
            changed = changed or i >= len(self._connected) or self._connected[i] is not layer
            if changed:
                try:
                    layer.connect_to(self.layers[i - 1] if i else None)
                except Exception as error:
                    error.add_note(f"in layer {i} of the model, {layer}")
                    raise
        self._connected = list(self.layers)

    def _update_roles(self) -> None:
        """Set the attributes of the layers that depend on their positions in this model."""
        exact = not isinstance(self.loss, SCCE)
        is_first = True
        for i, layer in enumerate(self.layers):
            # No layer before the first trained layer needs a gradient.
            layer.first_layer = is_first
            is_first = is_first and not _is_trained(layer)
            wanted = exact or i < len(self.layers) - 1
            if getattr(layer, "exact_softmax", wanted) is not wanted:
                layer.exact_softmax = wanted  # type: ignore[attr-defined]

    @property
    def params(self) -> list[Array]:
        """The parameters of all layers."""
        return [array for layer in self.layers for array in layer.params]

    @property
    def grads(self) -> list[Any]:
        """The gradients of all layers from the last :meth:`backward`; `None` if not trained."""
        found: list[Any] = []
        for layer in self.layers:
            grads = layer.grads
            found += [None] * len(grads) if layer.trainable is False else grads
        return found

    def forward(self, x: Any, train: bool = True) -> Any:
        """Return the outputs of the last layer, in training or evaluation mode."""
        self._update_roles()
        return self._apply_layers(x, lambda layer, x: _forward(layer, x, train))

    def _apply_layers(self, x: Any, call: Callable[[Any, Any], Any]) -> Any:
        for i, layer in enumerate(self.layers):
            try:
                x = call(layer, x)
            except Exception as error:
                error.add_note(f"in layer {i} of the model, {layer}")
                raise
        return x

    def backward(self, g: Any) -> Any:
        """Propagate the gradient of the outputs backward through the layers."""
        self._update_roles()
        for i in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[i]
            try:
                g = layer.backward(g)
            except Exception as error:
                error.add_note(f"in backward of layer {i} of the model, {layer}")
                raise
            if layer.first_layer:
                break
        return g

    def loss_gradient(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient of the summed loss in the outputs, the argument of :meth:`backward`.

        The documented gradient of :class:`SCCE` is ``p - t``, the gradient before a softmax. If the
        model does not end in a softmax, the gradient in `p` itself is returned.

        Parameters
        ----------
        outputs : array
            The result of :meth:`forward`.
        targets : array
            The targets.
        """
        loss: Any = self.loss
        if isinstance(loss, SCCE) and not self._ends_in_softmax():
            return loss.exact_gradient(outputs, targets)
        return loss.backward(outputs, targets)

    def _ends_in_softmax(self) -> bool:
        return isinstance(getattr(self.layers[-1], "activation", None), Softmax)

    def _probe(self, x: Any) -> Any:
        """Return outputs without an update, even if layers have no running statistics yet."""
        check_axes(self.input_shape, x)
        return self._apply_layers(
            x,
            lambda layer, x: (
                layer.probe(x) if isinstance(layer, Functional) else _forward(layer, x, False)
            ),
        )

    def _require_connected(self, method: str) -> None:
        same = len(self._connected) == len(self.layers) and all(
            map(operator.is_, self._connected, self.layers)
        )
        if not self.layers or not same:
            raise RuntimeError(
                f"Model.{method}: call compile(loss=..., optimizer=...) first, after the last add"
            )

    def _require_compiled(self, method: str) -> None:
        self._require_connected(method)
        if self.loss is None or self.optimizer is None:
            raise RuntimeError(f"Model.{method}: call compile(loss=..., optimizer=...) first")


def _is_trained(layer: Any) -> bool:
    return bool(layer.params) and layer.trainable is not False


def _forward(layer: Any, x: Any, train: bool) -> Any:
    return layer.forward(x, train=train) if _takes_train(layer) else layer.forward(x)


def _takes_train(layer: Any) -> bool:
    """Whether `forward` accepts an argument `train`; a user's layer may lack it."""
    function = layer.forward
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        parameters = inspect.signature(function).parameters.values()
        return any(p.name == "train" or p.kind is p.VAR_KEYWORD for p in parameters)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return "train" in names or bool(code.co_flags & inspect.CO_VARKEYWORDS)
