"""Summary, configuration and files of models, and conversion from and to functional layers."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np

import npdl.functional as F
from npdl import checkpoint, tree
from npdl._config import Functions, not_too_deep
from npdl._parameter_limit import at_most
from npdl.checkpoint._files.containers import container_format
from npdl.compat import objectives, optimizers
from npdl.compat._checks import Array
from npdl.compat._functions import functions_with
from npdl.compat._keras_arguments import keras_arguments
from npdl.compat._metrics import metric_of
from npdl.compat.layers._functional import Functional
from npdl.compat.layers._weights import set_weights, weights_of
from npdl.compat.layers.base import Layer, Stateful
from npdl.compat.layers.embedding import Embedding
from npdl.compat.utils._states import read_generator
from npdl.compat.utils.random import get_dtype, get_state, set_dtype, set_state
from npdl.functional._checks import check_flag
from npdl.functional._text_table import text_table

__all__ = ["Saved"]

M = TypeVar("M", bound="Saved")


class Saved:
    """Methods of a model for its configuration and its weights."""

    layers: list[Any]
    loss: Any
    optimizer: Any
    metrics: Any
    _connected: list[Layer]
    # Whether the model was built from one functional layer that is not a serial.
    _bare: bool = False

    def to_json(self) -> str:
        """Return the configuration as JSON: layers, loss, optimizer and named metrics.

        It has no weights; :meth:`save` writes both.
        """
        layers = [layer.to_json() for layer in self.layers]
        first = self.layers[0] if self.layers else None
        if isinstance(first, Functional) and not first.input_sizes and first.seen_shape:
            layers[0]["input_shape"] = list(first.seen_shape)
        config: dict[str, Any] = {"layers": layers}
        if self.loss is not None:
            config |= {"loss": self.loss.to_json(), "optimizer": self.optimizer.to_json()}
            config |= {
                "metrics": [name for name, f in self.metrics.items() if metric_of(name) is f]
            }
        return json.dumps(config)

    @classmethod
    def from_json(
        cls: type[M],
        config: str | Mapping[str, Any],
        constructors: Iterable[Callable[..., Any]] = (),
    ) -> M:
        """Return a new model from a configuration, compiled if the original was compiled.

        Parameters
        ----------
        config : str or dict
            The result of :meth:`to_json`.
        constructors : iterable of functions
            Your own ``@npdl.functional.layer`` functions in its `Functional` layers.

        Raises
        ------
        ValueError
            If a class or an argument is unknown.
        """
        with not_too_deep(f"{cls.__name__}.from_json"):
            return cls._from_json(config, functions_with(constructors))

    @classmethod
    def _from_json(cls: type[M], config: str | Mapping[str, Any], functions: Functions) -> M:
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
                f"metrics if the model is compiled, got {keys}"
            )
        model: Any = cls()
        for layer in values["layers"]:
            model.layers.append(Layer._from_json(layer, functions))
        if "loss" in values:
            model.compile(
                objectives.Objective._from_json(values["loss"], functions),
                optimizers.Optimizer._from_json(values["optimizer"], functions),
                values.get("metrics"),
            )
        return model  # type: ignore[no-any-return]

    @keras_arguments
    def summary(
        self, file: TextIO | None = None, *, print_fn: Callable[[str], Any] | None = None
    ) -> None:
        """Print a table of the layers with their output shapes and parameter counts.

        Parameters
        ----------
        file : text file, optional
            The output file; standard output by default.
        print_fn : callable, optional
            A function that is called with each line instead.
        """
        rows, total, trained = [], 0, 0
        for layer in self.layers:
            known = _is_connected(layer, self._connected)
            count = sum(map(np.size, weights_of(layer))) if known else 0
            if known and layer.trainable is not False:
                trained += sum(map(np.size, layer.params))
            shape = layer.out_shape
            names = ["batch" if i == 0 and n is None else str(n) for i, n in enumerate(shape or ())]
            shown = f"({', '.join(names)})" if shape else "not known yet"
            rows.append((0, [str(layer), shown, f"{count:,}" if count else ""]))
            total += count
        text = f"{total:,} parameters" if total else "no parameters"
        if trained < total:
            text += f"; {trained:,} are trained, {total - trained:,} are not"
        table = text_table(["layer", "output", "parameters"], rows, text)
        if print_fn is None:
            print(table, file=file)
            return
        for line in table.splitlines():
            print_fn(line)

    def get_weights(self) -> list[Array]:
        """Return copies of all weights: for each layer its `params`, then its other arrays.

        The leaves of :meth:`to_functional` are ordered by name instead, such as ``bias`` before
        ``weight``.
        """
        return [np.array(array) for layer in self.layers for array in weights_of(layer)]

    def set_weights(self, weights: Any) -> None:
        """Set all weights.

        Parameters
        ----------
        weights : list of arrays
            In the order of :meth:`get_weights`; they are copied.

        Raises
        ------
        ValueError
            If the number of arrays or a shape differs; the model is then unchanged.
        """
        set_weights("Model", self.layers, weights)

    @keras_arguments
    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write only the weights, as :class:`npdl.callbacks.ModelCheckpoint` does.

        Parameters
        ----------
        path : str or PathLike
            The file, ``.npz`` or ``.safetensors``; a missing folder is created.
        """
        self._require_connected("save_weights")
        _save(path, self.get_weights())

    @keras_arguments
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, so that training can continue after :meth:`load`.

        The file holds the configuration, the weights, the state of the optimizer, and the state of
        the generator of `npdl.utils.random`.

        Parameters
        ----------
        path : str or PathLike
            The file, ``.npz``. An existing file is replaced atomically; a missing folder is
            created.

        Raises
        ------
        ValueError
            If the shape of an example is unknown, since :meth:`load` needs it.
        TypeError
            If an argument of a layer cannot be written as JSON.
        """
        self._require_compiled("save")
        first = self.layers[0]
        if isinstance(first, Functional) and not (first.input_sizes or first.seen_shape):
            raise ValueError(
                "Model.save: the shape of an example is not known yet, and Model.load needs it; "
                "call predict(X) or fit(X, Y) first, or build the model with "
                "Model.from_functional(layer, params, input_shape=(64,))"
            )
        _save(path, self._contents())

    @classmethod
    def load(
        cls: type[M],
        path: str | os.PathLike[str],
        *,
        constructors: Iterable[Callable[..., Any]] = (),
        generator: bool = True,
    ) -> M:
        """Return a model from a file of :meth:`save`, and restore the state of the generator.

        Your own classes must be imported before.

        Parameters
        ----------
        path : str or PathLike
            The file.
        constructors : iterable of functions
            Your own ``@npdl.functional.layer`` functions in its `Functional` layers.
        generator : bool
            Whether to restore the generator of `npdl.utils.random`, which all models share for
            training. Pass `False` if the model is only used for prediction.

        Raises
        ------
        npdl.checkpoint.CheckpointError
            If the file is damaged or not a model.
        """
        generator = check_flag(generator, "Model.load(path, generator=False)")
        found = checkpoint.scalars(path)
        if not {"config", "dtype", "generator"} <= found.keys() or not found["config"]:
            raise checkpoint.CheckpointError(
                f"{path} holds no configuration of a model, as Model.save writes it; call "
                f"load_weights of a compiled model for files of weights, such as from "
                f"ModelCheckpoint, and npdl.checkpoint.load for other trees"
            )
        # A checkpoint of fit has additional leaves.
        partial = "before" in found
        before, dtype = get_state(), get_dtype()
        try:
            with _loading(path) as arrays:
                set_dtype(found["dtype"])
                config = json.loads(found["config"])
                if len(config["layers"]) > 1000 + 4 * arrays:
                    count = len(config["layers"])
                    raise ValueError(f"it has {count} layers, but {arrays} arrays of weights")
                model = cls.from_json(config, constructors)
                wanted = model._contents()
            contents = checkpoint.load(path, wanted, partial=partial)
        finally:
            # The initial weights are replaced, so their draws must not change the generator.
            set_state(before)
            set_dtype(dtype)
        with _loading(path):
            read_generator(contents["generator"])
            model._restore(contents)
        if generator:
            set_state(contents["generator"])
        return model

    @keras_arguments
    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Load only the weights from a file.

        Parameters
        ----------
        path : str or PathLike
            A file of :meth:`save`, :meth:`save_weights`, :class:`npdl.callbacks.ModelCheckpoint`,
            or a checkpoint of :meth:`fit`.

        Raises
        ------
        ValueError
            If its weights have other shapes; the model is then unchanged.
        """
        self._require_connected("load_weights")
        mine = self.get_weights()
        if "config" in checkpoint.scalars(path):
            self.set_weights(checkpoint.load(path, {"weights": mine}, partial=True)["weights"])
        else:
            self.set_weights(checkpoint.load(path, mine))

    def _contents(self) -> dict[str, Any]:
        return {"config": self.to_json(), **self._progress()}

    def _progress(self) -> dict[str, Any]:
        """Return the complete state of training."""
        params = [array for layer in self.layers for array in layer.params]
        return {
            "dtype": str(np.dtype(next((p.dtype for p in params), get_dtype()))),
            "weights": self.get_weights(),
            "optimizer": self.optimizer.get_state(params),
            "generator": get_state(),
        }

    def _restore(self, contents: Mapping[str, Any]) -> None:
        self.optimizer.set_state(contents["optimizer"])  # first, because it may raise
        self.set_weights(contents["weights"])

    def to_functional(self) -> tuple[F.Layer, Any]:
        """Return the model as a layer of `npdl.functional`, and its parameters.

        Returns
        -------
        layer : npdl.functional.Layer
            ``F.serial`` of the functional layers, or the single layer of the model.
        params : tuple of trees
            Copies: a tree per layer, or the tree of a single layer.

        Raises
        ------
        TypeError
            If a layer has no functional layer.
        """
        self._require_connected("to_functional")
        for layer in self.layers:
            if not isinstance(layer, Stateful):
                raise TypeError(
                    f"Model.to_functional: {layer} is your own layer and has no functional layer; "
                    f"write it with @npdl.functional.layer, and add it to a model as "
                    f"npdl.layers.Functional(...)"
                )
        pure = [layer.pure() for layer in self.layers]
        params = tuple(tree.map(np.array, layer.pure_params()) for layer in self.layers)
        if self._bare and len(pure) == 1:
            return pure[0], params[0]
        return F.serial(*pure), params

    @keras_arguments
    def export_onnx(
        self, path: str | os.PathLike[str], input_shape: tuple[int | None, ...] | None = None
    ) -> None:
        """Write the model to an ONNX file, in evaluation mode, for onnxruntime and others.

        It needs the extra `onnx`. :func:`npdl.onnx.save` describes the file; the model is the
        result of :meth:`to_functional`.

        Parameters
        ----------
        path : str or PathLike
            The file, such as ``"model.onnx"``.
        input_shape : tuple, optional
            The shape of one example, without the batch, if the first layer does not know it. `None`
            in place of a size allows any size.

        Raises
        ------
        NotImplementedError
            If a layer has no rule for ONNX.
        TypeError
            If a layer has no functional layer, or the parameters are not float32.
        ValueError
            If the shape of an example is unknown.
        """
        from npdl import onnx

        layer, params = self.to_functional()
        shape = self._example_shape() if input_shape is None else input_shape
        onnx.save(path, layer, params, shape)

    def _example_shape(self) -> Any:
        """Return the shape of one example of the inputs, `None` for any size."""
        first: Any = self.layers[0]
        if isinstance(first, Embedding):
            return first.out_shape[1:-1]
        shape = first.shape or first.input_sizes or getattr(first, "seen_shape", ())
        if not shape:
            raise ValueError(
                "Model.export_onnx: the shape of an example is unknown; pass it without the "
                'batch, as in model.export_onnx("model.onnx", input_shape=(64,))'
            )
        return shape

    @classmethod
    def from_functional(
        cls: type[M], layer: F.Layer, params: Any, input_shape: tuple[int, ...] | None = None
    ) -> M:
        """Return a model from a functional layer and its parameters.

        Parameters
        ----------
        layer : npdl.functional.Layer
            The layer; each child of an ``F.serial`` becomes a layer of the model.
        params : tree
            Its parameters, which are copied.
        input_shape : tuple, optional
            The shape of one example, without the batch. It is required to add more layers, and to
            save the model before the first call on data.

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
        children = layer.call.positional if is_serial and layer.call is not None else (layer,)
        trees = params if is_serial else (params,)
        if len(trees) != len(children):
            raise ValueError(
                f"Model.from_functional: {layer!r} has {len(children)} layers, but the parameters "
                f"have {len(trees)}"
            )
        model: Any = cls()
        for child, child_params in zip(children, trees, strict=True):
            shape = input_shape if not model.layers else None
            model.add(Functional(child, params=child_params, input_shape=shape))
        for i, stateful in enumerate(model.layers):
            if input_shape is None:
                stateful.initialize_without_shape()
            else:
                stateful.connect_to(model.layers[i - 1] if i else None)
        model._connected, model._bare = list(model.layers), not is_serial
        return model  # type: ignore[no-any-return]

    def _require_connected(self, method: str) -> None:
        raise NotImplementedError

    def _require_compiled(self, method: str) -> None:
        raise NotImplementedError


@contextlib.contextmanager
def _loading(path: str | os.PathLike[str]) -> Iterator[int]:
    """Limit the memory for building a model from a file, and name the file in errors.

    Yields the number of weight arrays in the file.
    """
    found = checkpoint.array_shapes(path).items()
    sizes = [math.prod(shape) for name, shape in found if name.startswith("weights/")]
    try:
        # An embedding initializes its table twice. An element needs at least 4 bytes in the file.
        with at_most(min(3 * sum(sizes), Path(path).stat().st_size)):
            yield len(sizes)
    except Exception as error:
        raise checkpoint.CheckpointError(
            f"{os.fspath(path)}: cannot build a model from it ({type(error).__name__}: {error})"
        ) from error


def _is_connected(layer: Any, connected: list[Layer]) -> bool:
    if isinstance(layer, Stateful):
        return layer.functional is not None
    return any(layer is other for other in connected)


def _save(path: str | os.PathLike[str], contents: Any) -> None:
    """Write a file; a missing folder is created."""
    container_format(path)  # refuses an unknown suffix before a folder is created
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, contents)
