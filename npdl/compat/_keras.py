"""Methods of a model under Keras's names, and Keras's order of arguments.

Each method is a short alias of a function of a model or a layer.

>>> import npdl
>>> model = npdl.Sequential([npdl.layers.Input(shape=(6,)), npdl.layers.Dense(3, "softmax")])
>>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
>>> model.count_params()
21
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from npdl._warn import warn
from npdl.compat import optimizers
from npdl.compat._keras_arguments import keras_arguments
from npdl.compat.layers._weights import weights_of
from npdl.compat.layers.base import Layer
from npdl.functional._arrays import plain_array
from npdl.functional._checks import check_flag

__all__ = ["KerasMethods", "batch_size_first", "optimizer_first"]

F = TypeVar("F", bound=Callable[..., Any])


_BATCHES = "model.train_on_batch(X, Y) trains on a single batch"
_TRAINED = "model.params are the trained arrays, and model.weights are all arrays"

# Keras's name without an attribute in this API → the counterpart.
COUNTERPARTS = {
    "build": "model.compile() connects the layers",
    "evaluate_generator": "model.test_on_batch(X, Y) takes a batch",
    "export": "model.export_onnx('model.onnx') writes an ONNX file",
    "fit_generator": _BATCHES,
    "get_config": "model.to_json() is the configuration",
    "inputs": "model.input_shape is the shape of the inputs",
    "non_trainable_weights": _TRAINED,
    "outputs": "model.output_shape is the shape of the outputs",
    "predict_generator": "model.predict_on_batch(X) takes a batch",
    "reset_metrics": "metrics are reset at each epoch",
    "reset_states": "recurrent layers start each batch at zero states",
    "to_yaml": "model.to_json() is the configuration",
    "trainable_variables": _TRAINED,
    "trainable_weights": _TRAINED,
    "variables": _TRAINED,
}


class KerasMethods:
    """Additional methods of a model, under Keras's names."""

    layers: list[Any]
    metrics: Any
    predict: Any
    evaluate: Any
    forward: Any
    _require_connected: Any

    @keras_arguments
    def __call__(self, X: Any, training: bool | None = False) -> Any:
        """Return the outputs for one batch of inputs, in evaluation mode unless `training`."""
        self._require_connected("__call__")
        train = training is not None and check_flag(training, "Model(X, training=True)")
        return self.forward(plain_array(X, "X"), train=train)

    def __getattr__(self, name: str) -> Any:
        advice = f"; {COUNTERPARTS[name]}" if name in COUNTERPARTS else ""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}{advice}",
            name=name,
            obj=self,
        )

    def __repr__(self) -> str:
        return f"Model([{', '.join(map(repr, self.layers))}])"

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained; an assignment sets all layers."""
        return any(layer.trainable is not False for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    @property
    def input_shape(self) -> Any:
        """The shape of the inputs, the batch first; `None` if it is unknown."""
        first = self.layers[0] if self.layers else None
        shape = getattr(first, "shape", None) or getattr(first, "input_sizes", None)
        return (None, *shape) if shape else None

    @property
    def output_shape(self) -> Any:
        """The shape of the outputs, the batch first."""
        return self.layers[-1].out_shape if self.layers else None

    @property
    def metrics_names(self) -> list[str]:
        """The names of the values that :meth:`evaluate` returns."""
        return ["loss", *self.metrics]

    @property
    def weights(self) -> list[Any]:
        """The arrays of the model (not copies), in the order of :meth:`get_weights`."""
        return [array for layer in self.layers for array in weights_of(layer)]

    def count_params(self) -> int:
        """Return the total number of elements of all weights."""
        return sum(map(np.size, self.weights))

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return the layer with a name, or at an index.

        Raises
        ------
        ValueError
            If zero or several layers have the name.
        """
        if index is not None:
            return self.layers[index]  # type: ignore[no-any-return]
        found = [layer for layer in self.layers if layer.name == name]
        if len(found) != 1:
            names = ", ".join(f"{i} {layer.name}" for i, layer in enumerate(self.layers))
            raise ValueError(
                f"Model.get_layer: {len(found)} layers have the name {name!r}, of {names}; pass "
                f"index=0, or give layers names, as in Dense(8, name='first')"
            )
        return found[0]  # type: ignore[no-any-return]

    def pop(self) -> Layer:
        """Remove and return the last layer; then call :meth:`compile`."""
        return self.layers.pop()  # type: ignore[no-any-return]

    @keras_arguments
    def predict_on_batch(self, X: Any) -> Any:
        """Return the outputs for one batch of inputs, in evaluation mode."""
        return self.predict(X, batch_size=max(len(X), 1))

    def predict_proba(self, X: Any, batch_size: int = 256, verbose: int = 0) -> Any:
        """Return the outputs, as :meth:`predict` does."""
        return self.predict(X, batch_size)

    def predict_classes(self, X: Any, batch_size: int = 256, verbose: int = 0) -> Any:
        """Return the class of each output: the largest column, or ``output > 0.5`` if single."""
        outputs = self.predict(X, batch_size)
        return outputs.argmax(axis=-1) if outputs.shape[-1] > 1 else (outputs > 0.5).astype(int)

    @keras_arguments
    def test_on_batch(
        self, X: Any, Y: Any, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Return the mean loss of one batch, or a list of the loss and the metrics."""
        return self.evaluate(
            X,
            Y,
            batch_size=max(len(X), 1),
            sample_weight=sample_weight,
            return_dict=return_dict,
        )


def optimizer_first(compile: F) -> F:
    """Let `compile` also accept the optimizer before the loss, in Keras's order."""

    @functools.wraps(compile)
    def ordered(self: Any, *args: Any, **keywords: Any) -> None:
        first = args[0] if args else None
        by_name = isinstance(first, str) and first in optimizers.NAMES
        if by_name or isinstance(first, optimizers.Optimizer):
            positional = dict(zip(("optimizer", "loss", "metrics"), args, strict=False))
            if shared := positional.keys() & keywords.keys():
                raise TypeError(f"Model.compile: {min(shared)} was passed twice")
            args, keywords = args[3:], {**positional, **keywords}
        compile(self, *args, **keywords)

    return ordered  # type: ignore[return-value]


def batch_size_first(fit: F) -> F:
    """Warn if `fit` seems to get the batch size before the epochs, which is Keras's order.

    A generator in place of inputs and targets raises.
    """

    @functools.wraps(fit)
    def checked(self: Any, *args: Any, **keywords: Any) -> Any:
        if len(args) < 2 and keywords.keys().isdisjoint(("Y", "y")):
            raise TypeError(
                "Model.fit: expected arrays of inputs and targets, as in fit(X, Y); for data in "
                "batches, call model.train_on_batch(X, Y)"
            )
        if len(args) > 3 and _is_power(args[2]) and not _is_power(args[3]):
            warn(
                f"Model.fit(X, Y, {args[2]!r}, {args[3]!r}) trains {args[2]} epochs with batches "
                f"of {args[3]}; for the opposite, pass epochs={args[3]}, batch_size={args[2]} by "
                f"keyword"
            )
        return fit(self, *args, **keywords)

    return checked  # type: ignore[return-value]


def _is_power(value: Any) -> bool:
    """Whether this is a power of two of at least 8, as usual for batch sizes."""
    return isinstance(value, int) and value >= 8 and value & (value - 1) == 0
