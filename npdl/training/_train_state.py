"""The state of training: all that decides the next number, as one tree."""

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
    """All that training changes; a tree.

    The keys of dropout follow from (rng, step), the order of the data from (rng, epoch), and the
    schedules from the counts in the optimizer's state.

    Parameters
    ----------
    step : int
        Number of steps made.
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
    # Parameters and the optimizer's state in the form for the next step; no part of the tree.
    _packed: Packed | None = attrs.field(default=None, init=False, repr=False)

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
            The shape of one example, without the batch. With `params` it may be left out; then
            only the types of these are checked.
        rng : key
            Decides the initial parameters and all that is random in training.
        params : tree, optional
            Parameters to start from, such as loaded ones, in place of initial ones. The arrays are
            copied.

        Raises
        ------
        ValueError
            If the parameters have another structure or other shapes than the model's own.
        TypeError
            If they are not arrays of one floating-point type, float32 or float64.

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
                "params=..., from which training starts"
            )
        if shape is not None:
            made = model.init(random.fold(key, "init"), shape)
            params = made if params is None else fitting(params, made)
        elif params is not None:
            params = fitting(params, params)
        return cls(0, params, optimizer.init(params), key)

    def updated(self, optimizer: Optimizer, grads: Any, donate: bool = False) -> "TrainState":
        """Return the state after one update of the parameters, with the next step's number.

        With `donate`, the arrays of this state may be overwritten.
        """
        packed = self._packed
        after = None if packed is None else packed.update(optimizer, grads, donate)
        if after is None and (packed := pack(optimizer, grads, self.opt_state, self.params)):
            # It shares the arrays of this state, and knows whether they are overwritten.
            object.__setattr__(self, "_packed", packed)
            after = packed.update(optimizer, grads, donate)
        if after is None:
            updates, opt_state = optimizer.update(grads, self.opt_state, self.params)
            params = apply_updates(self.params, updates)
            # In C order, as a checkpoint brings them back, since sums in another order may have
            # other bits.
            params, opt_state = tree.map(_in_c_order, (params, opt_state))
            return TrainState(self.step + 1, params, opt_state, self.rng)
        return self._with(after, self.step + 1)

    def with_params(self, params: Params) -> "TrainState":
        """Return the state with other running statistics among its parameters."""
        if self._packed is None:
            return attrs.evolve(self, params=params)
        return self._with(attrs.evolve(self._packed, params=params), self.step)

    @property
    def is_whole(self) -> bool:
        """Whether no step has begun to overwrite the arrays of this state."""
        return self._packed is None or self._packed.is_whole

    def _with(self, packed: Packed, step: int) -> "TrainState":
        """Return a state whose `opt_state` is made of the packed one when it is first read."""
        state = TrainState.__new__(TrainState)
        vars(state).update(step=step, params=packed.params, rng=self.rng, _packed=packed)
        return state

    def __getattr__(self, name: str) -> Any:
        # The tree takes a twentieth of the time of a small step, and few states are looked at.
        if name != "opt_state":
            raise AttributeError(f"a TrainState has no attribute {name!r}")
        return vars(self).setdefault("opt_state", self._packed.opt_state())  # type: ignore[union-attr]

    def __getstate__(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(TrainState)}
        return fields | {"_packed": None}


def fitting(params: Params, like: Params) -> Params:
    """Return copies of given parameters in the structure of a model's own, or raise.

    Raises
    ------
    ValueError
        Listing the parameters that are missing, unexpected or of another shape.
    TypeError
        If one of them is not an array, or they are not of one floating-point type.
    """
    if isinstance(params, TrainState):
        raise TypeError("params must be a tree of arrays, got a TrainState; give its state.params")
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


def check_state(state: Any, optimizer: Optimizer) -> None:
    """Raise unless training can continue from a state, with this optimizer."""
    if not isinstance(state, TrainState):
        raise TypeError(
            f"state must be a TrainState, such as fit and TrainState.create(...) "
            f"return, got {type(state).__name__}"
        )
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"expected an optimizer, such as F.adam(1e-3), got {optimizer!r}")
    # An update with gradients of zero shows whether the state is one of this optimizer.
    zeros = tree.map(lambda p: np.zeros_like(p) if p.dtype.kind == "f" else None, state.params)
    try:
        with np.errstate(all="ignore"):
            optimizer.update(zeros, state.opt_state, state.params)
    except Exception as error:
        error.add_note("in an update of zeros with the given state, before the first step")
        raise


def _kind(leaf: Any) -> str:
    """Return the kind of a type; floating-point types of all sizes are alike."""
    dtype = np.asarray(leaf).dtype
    return "float" if dtype.kind == "f" else dtype.name


def _in_c_order(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and not leaf.flags.c_contiguous:
        return leaf.copy()
    return leaf
