"""How models are shown, written and read, and turned into functional ones and back."""

import json
import os
from collections.abc import Mapping
from typing import Any, TextIO, TypeVar

import numpy as np

import npdl.functional as F
from npdl import checkpoint, tree
from npdl.compat import objectives, optimizers
from npdl.compat.fitting import Array
from npdl.compat.layers.base import Layer, Stateful
from npdl.compat.layers.functional import Functional
from npdl.compat.utils.random import get_dtype, get_state, set_dtype, set_state
from npdl.functional.tables import text_table

__all__ = ["Saved"]

M = TypeVar("M", bound="Saved")


class Saved:
    """The part of a model that is about its configuration and its weights."""

    layers: list[Any]
    loss: Any
    optimizer: Any
    metrics: Any
    _connected: list[Layer]

    def to_json(self) -> str:
        """Return the configuration as JSON: layers, loss, optimizer, and metrics that have a name.

        The weights are not in it; :meth:`save` writes both.
        """
        config: dict[str, Any] = {"layers": [layer.to_json() for layer in self.layers]}
        if self.loss is not None:
            config |= {"loss": self.loss.to_json(), "optimizer": self.optimizer.to_json()}
            config |= {"metrics": [name for name in self.metrics if name == "accuracy"]}
        return json.dumps(config)

    @classmethod
    def from_json(cls: type[M], config: str | Mapping[str, Any]) -> M:
        """Return a new model from a configuration, compiled where the old one was.

        Parameters
        ----------
        config : str or dict
            What :meth:`to_json` returned.

        Raises
        ------
        ValueError
            If a class is not known, or an argument is not one of its own.
        """
        values = json.loads(config) if isinstance(config, str) else config
        known = {"layers", "loss", "metrics", "optimizer"}
        if (
            not isinstance(values, Mapping)
            or not isinstance(values.get("layers"), list)
            or values.keys() - known
            or ("loss" in values) != ("optimizer" in values)
        ):
            keys = sorted(values) if isinstance(values, Mapping) else type(values).__name__
            raise ValueError(
                f"{cls.__name__}.from_json: expected a list of layers, and loss, optimizer and "
                f"metrics where the model is compiled, got {keys}"
            )
        model: Any = cls()
        for layer in values["layers"]:
            model.add(Layer.from_json(layer))
        if "loss" in values:
            model.compile(
                objectives.Objective.from_json(values["loss"]),
                optimizers.Optimizer.from_json(values["optimizer"]),
                values.get("metrics"),
            )
        return model  # type: ignore[no-any-return]

    def summary(self, file: TextIO | None = None) -> None:
        """Print a table of the layers, the shapes of their outputs and their parameters.

        Parameters
        ----------
        file : text file, optional
            Where to write; the standard output by default.
        """
        rows, total, trained = [], 0, 0
        for layer in self.layers:
            sizes = [np.size(array) for array in layer.params]
            count = sum(sizes) + sum(np.size(array) for array in _untrained(layer))
            shape = layer.out_shape
            names = ["batch" if i == 0 and n is None else str(n) for i, n in enumerate(shape or ())]
            shown = f"({', '.join(names)})" if shape else "not known yet"
            rows.append((0, [str(layer), shown, f"{count:,}" if count else ""]))
            total, trained = total + count, trained + sum(sizes)
        text = f"{total:,} parameters" if total else "no parameters"
        if trained < total:
            text += f"; {trained:,} are trained, {total - trained:,} are not"
        print(text_table(["layer", "output", "parameters"], rows, text), file=file)

    def get_weights(self) -> list[Array]:
        """Return copies of all weights: for each layer its `params`, then what is not trained."""
        return [np.array(array) for layer in self.layers for array in _weights(layer)]

    def set_weights(self, weights: Any) -> None:
        """Set all weights.

        Parameters
        ----------
        weights : list of arrays
            In the order of :meth:`get_weights`; they are copied.

        Raises
        ------
        ValueError
            If the number of arrays or a shape differs; the model is then as it was.
        """
        given = [np.asarray(array) for array in weights]
        if any(array.dtype.kind not in "fiub" for array in given):
            raise TypeError(
                f"Model.set_weights: expected arrays of numbers, got "
                f"{', '.join(sorted({str(array.dtype) for array in given}))}"
            )
        wanted = [np.shape(array) for layer in self.layers for array in _weights(layer)]
        if [array.shape for array in given] != wanted:
            raise ValueError(
                f"Model.set_weights: this model has weights of the shapes {wanted}, got "
                f"{[array.shape for array in given]}; are they of another model?"
            )
        remaining = iter(given)
        for layer in self.layers:
            _set_weights(layer, [next(remaining) for _ in _weights(layer)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, from which training goes on where it stopped.

        It holds the configuration, the weights, the state of the optimizer, and that of the
        generator of `npdl.utils.random`.

        Parameters
        ----------
        path : str or PathLike
            Ends in ``.npz``; what was there is replaced when all is written.
        """
        self._require_compiled("save")
        checkpoint.save(path, self._contents())

    @classmethod
    def load(cls: type[M], path: str | os.PathLike[str]) -> M:
        """Return the model that :meth:`save` wrote, and set the generator as it was then.

        Classes of your own must have been imported.

        Parameters
        ----------
        path : str or PathLike
            The file.

        Raises
        ------
        npdl.checkpoint.CheckpointError
            If the file is damaged or holds no model.
        """
        found = checkpoint.scalars(path)
        if not {"config", "dtype", "generator"} <= found.keys() or not found["config"]:
            raise checkpoint.CheckpointError(
                f"{path} holds no configuration of a model; Model.save writes it, and "
                f"npdl.checkpoint.load or Model.load_weights read others"
            )
        # A checkpoint of fit holds more than the model.
        partial = "run/header" in found
        generator, dtype = get_state(), get_dtype()
        try:
            set_dtype(found["dtype"])
            model = cls.from_json(found["config"])
            contents = checkpoint.load(path, model._contents(), partial=partial)
        finally:
            # The weights that it began with are replaced, so drawing them must leave no trace.
            set_state(generator)
            set_dtype(dtype)
        model._take(contents)
        set_state(contents["generator"])
        return model

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Take the weights, and nothing else, of a model that :meth:`save` wrote.

        Parameters
        ----------
        path : str or PathLike
            The file.

        Raises
        ------
        ValueError
            If its weights are not those of such a model; this one is then as it was.
        """
        self._require_connected("load_weights")
        mine = {"weights": self.get_weights()}
        self.set_weights(checkpoint.load(path, mine, partial=True)["weights"])

    def _contents(self) -> dict[str, Any]:
        return {"config": self.to_json(), **self._progress()}

    def _progress(self) -> dict[str, Any]:
        """Return what training changes."""
        params = [array for layer in self.layers for array in layer.params]
        return {
            "dtype": str(np.dtype(next((p.dtype for p in params), get_dtype()))),
            "weights": self.get_weights(),
            "optimizer": self.optimizer.get_state(params),
            "generator": get_state(),
        }

    def _take(self, contents: Mapping[str, Any]) -> None:
        self.set_weights(contents["weights"])
        self.optimizer.set_state(contents["optimizer"])

    def to_functional(self) -> tuple[F.Layer, Any]:
        """Return the model as a layer of `npdl.functional`, and its parameters.

        Returns
        -------
        layer : npdl.functional.Layer
            ``F.serial`` of the functional layers.
        params : tuple of trees
            Copies, in which each layer has its tree.

        Raises
        ------
        TypeError
            If a layer is not made of a functional one.
        """
        self._require_connected("to_functional")
        for layer in self.layers:
            if not isinstance(layer, Stateful):
                raise TypeError(
                    f"Model.to_functional: {layer} is a layer of your own, and not made of a "
                    f"functional one; write it with @npdl.functional.layer, and put it into a "
                    f"model as npdl.layers.Functional(...)"
                )
        pure = [layer.pure() for layer in self.layers]
        params = tuple(tree.map(np.array, layer.tree) for layer in self.layers)
        return F.serial(*pure), params

    @classmethod
    def from_functional(
        cls: type[M], layer: F.Layer, params: Any, input_shape: tuple[int, ...] | None = None
    ) -> M:
        """Return a model of functional layers and their parameters.

        Parameters
        ----------
        layer : npdl.functional.Layer
            The layer; each part of a ``F.serial`` becomes a layer of the model.
        params : tree
            Its parameters, which are copied.
        input_shape : tuple, optional
            The shape of one example, without the batch. It is needed to add more layers, or to
            save the model.

        Examples
        --------
        >>> import numpy as np
        >>> import npdl
        >>> import npdl.functional as F
        >>> layer = F.serial(F.dense(4), F.relu())
        >>> params = layer.init(0, (3,))
        >>> model, x = npdl.Model.from_functional(layer, params), np.ones((2, 3), np.float32)
        >>> np.array_equal(model.predict(x), layer(params, x))
        True
        """
        is_serial = layer.call is not None and layer.call.constructor is F.serial
        parts = layer.call.positional if is_serial and layer.call is not None else (layer,)
        trees = params if is_serial else (params,)
        if len(trees) != len(parts):
            raise ValueError(
                f"Model.from_functional: {layer!r} has {len(parts)} layers, but the parameters are "
                f"those of {len(trees)}"
            )
        model: Any = cls()
        for part, of_part in zip(parts, trees, strict=True):
            shape = input_shape if not model.layers else None
            model.add(Functional(part, params=of_part, input_shape=shape))
        for i, stateful in enumerate(model.layers):
            if input_shape is None:
                stateful.hold()
            else:
                stateful.connect_to(model.layers[i - 1] if i else None)
        model._connected = list(model.layers)
        return model  # type: ignore[no-any-return]

    def _require_connected(self, method: str) -> None:
        raise NotImplementedError

    def _require_compiled(self, method: str) -> None:
        raise NotImplementedError


def _weights(layer: Any) -> list[Any]:
    return [*layer.params, *_untrained(layer)]


def _untrained(layer: Any) -> list[Any]:
    """Return the arrays of a layer that are not among its `params`, such as running statistics."""
    return [leaf for leaf in tree.leaves(getattr(layer, "tree", None)) if not _in(leaf, layer)]


def _in(leaf: Any, layer: Any) -> bool:
    return any(np.may_share_memory(leaf, array) for array in layer.params)


def _set_weights(layer: Any, weights: list[Array]) -> None:
    trained = layer.params
    for array, given in zip(trained, weights, strict=False):
        array[...] = given
    rest = iter(weights[len(trained) :])
    if isinstance(layer, Stateful):
        leaves = [
            leaf if _in(leaf, layer) else np.array(next(rest), leaf.dtype)
            for leaf in tree.leaves(layer.tree)
        ]
        layer.tree = tree.unflatten(layer.tree, leaves)
