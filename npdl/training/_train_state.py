"""The state of training, as one tree: it determines all later numbers."""

from typing import Any

import attrs
import numpy as np

from npdl import random, tree
from npdl.functional._arrays import describe
from npdl.functional._layer import Layer, Params, Shape
from npdl.functional.optimizers._optimizer import Optimizer, apply_updates
from npdl.functional.optimizers._packed import Packed, pack

__all__ = ["TrainState"]


@attrs.frozen(eq=False, slots=False)
class TrainState:
    """All values that training changes; a tree.

    The keys of dropout follow from (rng, step), and the order of the data from (rng, epoch).
    Schedules depend on the counts in the optimizer's state.

    Parameters
    ----------
    step : int
        Number of completed steps.
    params : tree
        The parameters of the model, with its running statistics.
    opt_state : tree
        The state of the optimizer.
    rng : key
        The key of the whole run.

    Examples
    --------
    >>> from npdl.training import TrainState
    >>> import npdl.functional as F
    >>> from npdl import tree
    >>> state = TrainState.create(F.dense(2), F.momentum(0.1), shape=(3,), rng=0)
    >>> state.step, tree.paths(state)[:4]
    (0, ['step', 'params/bias', 'params/weight', 'opt_state/0/velocity/bias'])
    """

    step: int
    params: Params
    opt_state: Any
    rng: random.Key

    @classmethod
    def create(
        cls,
        model: Layer,
        optimizer: Optimizer,
        shape: Shape | None = None,
        rng: random.KeyLike = 0,
        *,
        params: Params | None = None,
    ) -> "TrainState":
        """Return the state before the first step.

        Parameters
        ----------
        model : Layer
            The model.
        optimizer : Optimizer
            The optimizer.
        shape : tuple
            The shape of one example, without the batch. With `params` it is optional; without
            it, only the types of `params` are checked.
        rng : key
            The key of the initial parameters and of all randomness in training.
        params : tree, optional
            Parameters to start from, such as loaded ones, instead of initial ones. The arrays are
            copied.

        Raises
        ------
        ValueError
            If the structure or a shape of `params` differs from the model's.
        TypeError
            If `params` are not arrays of one floating-point type, float32 or float64.

        Examples
        --------
        >>> from npdl.training import TrainState
        >>> import npdl.functional as F
        >>> model = F.dense(2)
        >>> first = TrainState.create(model, F.sgd(0.1), shape=(3,), rng=1)
        >>> TrainState.create(model, F.adam(0.1), shape=(3,), params=first.params).step
        0
        """
        if not isinstance(model, Layer):
            raise TypeError(f"expected a layer as the model, got {model!r}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"expected an optimizer, such as F.adam(1e-3), got {optimizer!r}")
        key = random.key(rng)
        if shape is None and params is None:
            raise TypeError(
                "TrainState.create needs the shape of one example, as in shape=(64,), or "
                "parameters to start from, as in params=..."
            )
        if shape is not None:
            initial = model.init(random.fold(key, "init"), shape)
            params = initial if params is None else fitting(params, initial)
        elif params is not None:
            params = fitting(params, params)
        return cls(0, params, optimizer.init(params), key)

    def updated(self, optimizer: Optimizer, grads: Any, donate: bool = False) -> "TrainState":
        """Return the state after one update of the parameters, with `step` increased by 1.

        With `donate`, the arrays of this state may be overwritten.
        """
        packed = self.packed
        if packed is not None and packed.fetch is not None:
            return self.released().updated(optimizer, grads, donate)
        after = None if packed is None else packed.update(optimizer, grads, donate)
        if after is None and (packed := pack(optimizer, grads, self.opt_state, self.params)):
            # `packed` shares the arrays of this state, and records whether they are overwritten.
            vars(self)["opt_state"] = packed
            after = packed.update(optimizer, grads, donate)
        if after is not None:
            return TrainState(self.step + 1, after.params, after, self.rng)
        updates, opt_state = optimizer.update(grads, self.opt_state, self.params)
        params = apply_updates(self.params, updates)
        # Arrays are in C order, as after loading a checkpoint: the memory order affects the bits of
        # sums.
        params, opt_state = tree.map(_in_c_order, (params, opt_state))
        return TrainState(self.step + 1, params, opt_state, self.rng)

    def with_params(self, params: Params) -> "TrainState":
        """Return the state with other running statistics among its parameters."""
        if self.packed is None:
            return attrs.evolve(self, params=params)
        return TrainState(self.step, params, attrs.evolve(self.packed, params=params), self.rng)

    def released(self) -> "TrainState":
        """Return the state with arrays that no other process sees."""
        if self.packed is None or self.packed.fetch is None:
            return self
        params, opt_state = tree.copied((self.params, self.opt_state))
        return TrainState(self.step, params, opt_state, self.rng)

    @property
    def trained_on(self) -> tuple[int, int] | None:
        """The numbers of examples in total and per batch, if `fit` has trained this state.

        It is not part of the tree: a copy of the tree and a file are without it.
        """
        return vars(self).get("trained_on_")

    @property
    def is_whole(self) -> bool:
        """Whether no step has begun to overwrite the arrays of this state."""
        return self.packed is None or self.packed.is_whole

    @property
    def packed(self) -> Packed | None:
        """The parameters and the state of an element-wise optimizer as vectors, after a step."""
        held = vars(self)["opt_state"]
        return held if type(held) is Packed else None

    def _unpacked(self) -> Any:
        held = vars(self)["opt_state"]
        return held.opt_state() if type(held) is Packed else held

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"opt_state": self.opt_state}


# After a step, the field holds the packed form of the parameters and the state. To unpack it takes
# a twentieth of the time of a small step, and few states are read.
TrainState.opt_state = property(TrainState._unpacked)


def fitting(params: Params, like: Params) -> Params:
    """Return copies of parameters in the structure of a model's parameters, or raise.

    Raises
    ------
    ValueError
        If parameters are missing, unexpected or of another shape. The error lists them.
    TypeError
        If one of them is not an array, or their floating-point types differ.
    """
    if isinstance(params, TrainState):
        raise TypeError("params must be a tree of arrays, got a TrainState; pass its state.params")
    wanted, given = dict(tree.items(like)), dict(tree.items(params))
    for path, leaf in given.items():
        plain = type(leaf) in (np.ndarray, np.memmap) or isinstance(leaf, np.generic)
        if not plain or leaf.dtype.kind not in "fiub":
            raise TypeError(
                f"params: expected NumPy arrays of numbers, got {describe(leaf)} at {path!r}; "
                f"convert it with np.asarray(values, np.float32)"
            )
    lines = [f"{path}: missing, {describe(leaf)} is expected"
             for path, leaf in wanted.items() if path not in given]  # fmt: skip
    for path, leaf in given.items():
        if path not in wanted:
            lines.append(f"{path}: {describe(leaf)} is not expected")
        elif leaf.shape != np.shape(wanted[path]) or _kind(leaf) != _kind(wanted[path]):
            lines.append(f"{path}: {describe(leaf)}, {describe(wanted[path])} is expected")
    if lines:
        raise ValueError("\n  ".join(["these params do not fit the model:", *lines]))
    types = {leaf.dtype for leaf in given.values() if leaf.dtype.kind == "f"}
    if not types <= {np.dtype(np.float32)} and types != {np.dtype(np.float64)}:
        raise TypeError(
            f"params: expected arrays of one type, float32 or float64, got "
            f"{', '.join(sorted(map(str, types)))}; convert them with "
            f"npdl.tree.astype(params, np.float32)"
        )
    return tree.unflatten(like, [np.array(given[path], order="C") for path in wanted])


def mark(state: TrainState, trained_on: tuple[int, int]) -> TrainState:
    """Set the numbers of examples in total and per batch of a state; return the state itself."""
    vars(state)["trained_on_"] = trained_on
    return state


def check_state(state: Any, optimizer: Optimizer) -> None:
    """Raise unless training can continue from a state, with this optimizer."""
    if not isinstance(state, TrainState):
        raise TypeError(
            f"state must be a TrainState, such as fit and TrainState.create(...) "
            f"return, got {type(state).__name__}"
        )
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"expected an optimizer, such as F.adam(1e-3), got {optimizer!r}")
    # An update with zero gradients raises if the state belongs to another optimizer.
    zeros = tree.map(lambda p: np.zeros_like(p) if p.dtype.kind == "f" else None, state.params)
    try:
        with np.errstate(all="ignore"):
            optimizer.update(zeros, state.opt_state, state.params)
    except Exception as error:
        error.add_note("in an update with zero gradients and this state, before the first step")
        raise


def _kind(leaf: Any) -> str:
    """Return the name of a data type; "float" for floating-point types of all sizes."""
    dtype = np.asarray(leaf).dtype
    return "float" if dtype.kind == "f" else dtype.name


def _in_c_order(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and not leaf.flags.c_contiguous:
        return leaf.copy()
    return leaf
