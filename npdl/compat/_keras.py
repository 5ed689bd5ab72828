"""Methods of a model under the names of Keras, and Keras's order of arguments.

Each is a line: there is nothing here that a model or a layer does not have under another name.

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
from npdl.compat._habits import keras_arguments
from npdl.compat.layers._weights import weights_of
from npdl.compat.layers.base import Layer
from npdl.functional._checks import check_flag
from npdl.functional._layer import plain_array

__all__ = ["KerasMethods", "batch_size_first", "optimizer_first"]

F = TypeVar("F", bound=Callable[..., Any])


_BATCHES = "model.train_on_batch(X, Y) trains on data that come batch by batch"
_TRAINED = "model.params are the arrays that are trained, and model.weights are all"

# Names of Keras without an attribute here → the counterpart.
ELSEWHERE = {
    "build": "model.compile() connects the layers",
    "evaluate_generator": "model.test_on_batch(X, Y) takes a batch",
    "export": "model.save('model.npz') writes a file",
    "fit_generator": _BATCHES,
    "get_config": "model.to_json() is the configuration",
    "inputs": "model.input_shape is the shape of the inputs",
    "non_trainable_weights": _TRAINED,
    "outputs": "model.output_shape is the shape of the outputs",
    "predict_generator": "model.predict_on_batch(X) takes a batch",
    "reset_metrics": "metrics begin anew with each epoch",
    "reset_states": "layers begin each batch without a state",
    "to_yaml": "model.to_json() is the configuration",
    "trainable_variables": _TRAINED,
    "trainable_weights": _TRAINED,
    "variables": _TRAINED,
}


class KerasMethods:
    """Further methods of a model, under the names of Keras."""

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
        advice = f"; {ELSEWHERE[name]}" if name in ELSEWHERE else ""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}{advice}",
            name=name,
            obj=self,
        )

    def __repr__(self) -> str:
        return f"Model([{', '.join(map(repr, self.layers))}])"

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained; assigning sets it for all layers."""
        return any(layer.trainable is not False for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    @property
    def input_shape(self) -> Any:
        """The shape of the inputs, the batch first; `None`, where it is not known."""
        first = self.layers[0] if self.layers else None
        shape = getattr(first, "shape", None) or getattr(first, "told", None)
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
        """The arrays themselves, in the order of :meth:`get_weights`."""
        return [array for layer in self.layers for array in weights_of(layer)]

    def count_params(self) -> int:
        """Return the number of all weights."""
        return sum(map(np.size, self.weights))

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return the layer of a name, or at an index.

        Raises
        ------
        ValueError
            If the model has no such layer, or several.
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
        """Remove the last layer, and return it; :meth:`compile` comes next."""
        return self.layers.pop()  # type: ignore[no-any-return]

    @keras_arguments
    def predict_on_batch(self, X: Any) -> Any:
        """Return the outputs for one batch of inputs, in evaluation mode."""
        return self.predict(X, batch_size=max(len(X), 1))

    def predict_proba(self, X: Any, batch_size: int = 256, verbose: int = 0) -> Any:
        """Return the outputs: the same as :meth:`predict`."""
        return self.predict(X, batch_size)

    def predict_classes(self, X: Any, batch_size: int = 256, verbose: int = 0) -> Any:
        """Return the class of each output: the largest; of one column, the side of 0.5."""
        outputs = self.predict(X, batch_size)
        return outputs.argmax(axis=-1) if outputs.shape[-1] > 1 else (outputs > 0.5).astype(int)

    @keras_arguments
    def test_on_batch(
        self, X: Any, Y: Any, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Return the mean loss of one batch; where there are metrics, the list of it and them."""
        return self.evaluate(
            X,
            Y,
            batch_size=max(len(X), 1),
            sample_weight=sample_weight,
            return_dict=return_dict,
        )


def optimizer_first(compile: F) -> F:
    """Let `compile` take the optimizer before the loss, as Keras does."""

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
    """Warn where `fit` seems to get Keras's order, the size of the batch before the epochs.

    A generator in the place of inputs and targets is refused.
    """

    @functools.wraps(fit)
    def checked(self: Any, *args: Any, **keywords: Any) -> Any:
        if len(args) < 2 and keywords.keys().isdisjoint(("Y", "y")):
            raise TypeError(
                "Model.fit: expected inputs and targets, arrays, as in fit(X, Y); data that come "
                "batch by batch are trained on by model.train_on_batch(X, Y)"
            )
        if len(args) > 3 and _is_power(args[2]) and not _is_power(args[3]):
            warn(
                f"Model.fit(X, Y, {args[2]!r}, {args[3]!r}) makes {args[2]} epochs with batches of "
                f"{args[3]}; pass epochs={args[3]}, batch_size={args[2]} by keyword, if the "
                f"opposite is meant"
            )
        return fit(self, *args, **keywords)

    return checked  # type: ignore[return-value]


def _is_power(value: Any) -> bool:
    """Whether this is a power of two such as batches have."""
    return isinstance(value, int) and value >= 8 and value & (value - 1) == 0
