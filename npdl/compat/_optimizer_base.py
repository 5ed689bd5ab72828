"""Base classes of optimizers that update arrays in place.

A user's optimizer is a subclass of :class:`Optimizer`, which has the learning rate and counts the
updates. The optimizers in `optimizers.py` are subclasses of :class:`Functional`. It applies
transforms of `npdl.functional` to the gradients, and keeps their state.
"""

import math
from typing import Any, ClassVar

import numpy as np

import npdl.functional as F
from npdl import tree
from npdl._warn import warn
from npdl.compat._named import Named, argument_names
from npdl.functional._arrays import describe
from npdl.functional._checks import check_number, is_int
from npdl.functional.optimizers._packed import update_in_place
from npdl.tree import Array

__all__ = ["Functional", "Optimizer", "Slot", "npdl_clip"]


def npdl_clip(grad: Any, boundary: float) -> Any:
    """Return the gradient clipped to [-boundary, boundary]; unchanged if boundary ≤ 0.

    Parameters
    ----------
    grad : array
        The gradient.
    boundary : float
        The largest absolute value.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.optimizers import npdl_clip
    >>> npdl_clip(np.array([-3.0, 0.5]), 1.0), npdl_clip(np.array([-3.0]), -1)
    (array([-1. ,  0.5]), array([-3.]))
    """
    return F.clip_by_value(boundary).update(grad, ())[0] if boundary > 0 else grad


class Optimizer(Named):
    """Learning rate and update count: the base class of your own optimizers.

    Parameters
    ----------
    lr : float
        The learning rate, not negative.
    clip : float
        Gradients are clipped to ±clip; a value ≤ 0 disables clipping.
    decay : float
        Decay of the learning rate: ``lr / (1 + decay · iterations)``.
    lr_min, lr_max : float
        The bounds of the learning rate.

    Attributes
    ----------
    iterations : int
        Number of updates.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.optimizers import Optimizer, npdl_clip
    >>> class Signs(Optimizer):
    ...     def update(self, params, grads):
    ...         for p, g in zip(params, grads):
    ...             p -= self.lr * np.sign(npdl_clip(g, self.clip))
    ...         super().update(params, grads)
    >>> p, optimizer = np.array([1.0, 2.0]), Signs(lr=0.25, decay=1.0)
    >>> optimizer.update([p], [np.array([3.0, -3.0])])
    >>> p, optimizer.lr
    (array([0.75, 2.25]), 0.125)
    """

    family = "optimizers"
    # Defaults for a subclass that does not call this constructor.
    iterations = 0
    clip: float = -1
    decay = 0.0
    lr_min, lr_max = 0.0, math.inf
    _first_rate = 0.001

    def __init__(
        self,
        lr: float = 0.001,
        clip: float = -1,
        decay: float = 0.0,
        lr_min: float = 0.0,
        lr_max: float = np.inf,
    ) -> None:
        name = type(self).__name__
        self.iterations = 0
        self.clip = check_number(clip, f"{name}(clip=1.0)", "that is finite")
        self.decay = check_number(decay, f"{name}(decay=0.01)", "of at least 0")
        if not 0 <= lr_min <= lr_max:
            raise ValueError(
                f"{name}: expected 0 ≤ lr_min ≤ lr_max, got lr_min={lr_min}, lr_max={lr_max}"
            )
        self.lr_min, self.lr_max = lr_min, lr_max
        self.lr = lr

    @property
    def lr(self) -> float:
        """The learning rate of the next update; an assignment changes all later rates."""
        rate = self._first_rate / (1 + self.decay * self.iterations)
        return min(max(rate, self.lr_min), self.lr_max)

    @lr.setter
    def lr(self, value: float) -> None:
        rate = check_number(value, f"{type(self).__name__}(lr=0.001)", "of at least 0")
        self._first_rate = rate * (1 + self.decay * self.iterations)

    @property
    def learning_rate(self) -> float:
        """Alias of `lr`."""
        return self.lr

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.lr = value

    def update(self, params: Any, grads: Any) -> None:
        """Count an update; a subclass updates the parameters before it calls this method.

        Parameters
        ----------
        params : list of arrays
            The parameters, updated in place.
        grads : list of arrays
            Their gradients, in the same order.
        """
        self.iterations += 1

    def get_state(self, params: Any = ()) -> dict[str, Any]:
        """Return a copy of the state of the optimizer: a tree of arrays and numbers.

        Parameters
        ----------
        params : list of arrays, optional
            The parameters, required before the first update.
        """
        return {"iterations": self.iterations, "lr": self._first_rate}

    def set_state(self, state: Any) -> None:
        """Set the state of an optimizer with the same arguments.

        Parameters
        ----------
        state : dict
            The result of :meth:`get_state`.

        Raises
        ------
        ValueError
            If the update count or the learning rate is invalid; the state is then unchanged.
        """
        name = type(self).__name__
        iterations = _count(name, state["iterations"])
        rate = check_number(state["lr"], f"{name}(lr=0.001)", "of at least 0")
        self.iterations, self._first_rate = iterations, float(rate)


class Slot:
    """An attribute with a state array per parameter; `None` before the first update.

    Parameters
    ----------
    field : str
        The name of the arrays in the state of the functional optimizer.
    decay : str, optional
        The attribute β, if the state holds ``array / (1 - β)``. The attribute then gives copies,
        multiplied by 1 - β.
    """

    def __init__(self, field: str, decay: str = "") -> None:
        self.field, self.decay = field, decay

    def __get__(self, optimizer: Any, owner: Any = None) -> Any:
        if optimizer is None:
            return self
        states = [part for part in optimizer._state or () if hasattr(part, self.field)]
        arrays = getattr(states[0], self.field) if states else None
        if arrays is None or not self.decay:
            return arrays
        return tree.map(lambda array: (1 - getattr(optimizer, self.decay)) * array, arrays)


class Functional(Optimizer):
    """An optimizer that applies the transforms of `_transforms()` to the gradients."""

    # The bounds of plausible values of the first argument, if it is not the learning rate.
    plausible: ClassVar[tuple[float, float]] = (0.5, math.inf)

    _state: Any = None
    _shapes: Any = None  # shapes and types of the parameters at the first update
    _settings: Any = None  # the attributes at the last build of the functional optimizer
    _built: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._optimizer()  # raises on invalid arguments

    @classmethod
    def _rearranged(cls, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        names = [*argument_names(cls)]
        before = names.index("lr")
        if not before and len(args) > 1 and 0.8 <= args[1] < 1:
            warn(
                f"{cls.__name__}({args[0]!r}, {args[1]!r}) clips gradients to ±{args[1]!r}; "
                f"Momentum(momentum={args[1]!r}, lr={args[0]!r}) is SGD with momentum; pass clip= "
                f"by keyword to avoid this warning"
            )
        if 0 < len(args) <= before and {"lr", "learning_rate"}.isdisjoint(keywords):
            first, (low, high) = args[0], cls.plausible
            if isinstance(first, int | float | np.number) and not low <= first < high:
                raise ValueError(
                    f"{cls.__name__}({first!r}) would set {names[0]}, the first argument; pass the "
                    f"learning rate by keyword, as in {cls.__name__}(lr=0.001), and also such a "
                    f"value of {names[0]}"
                )
        return args, keywords

    def _transforms(self) -> list[F.Optimizer]:
        """Return the transforms of the optimizer; their learning rate is `self._rate`."""
        raise NotImplementedError

    def _rate(self, count: int) -> float:
        return self.lr

    def _optimizer(self) -> F.Optimizer:
        """Return the functional optimizer, rebuilt if an attribute has changed."""
        settings = {
            name: value
            for name, value in vars(self).items()
            if name[0] != "_" and name != "iterations"
        }
        if settings != self._settings:
            # An empty chain returns gradients unchanged, and keeps the structure of the state.
            clipping = F.clip_by_value(self.clip) if self.clip > 0 else F.chain()
            try:
                self._built = F.chain(clipping, *self._transforms())
            except ValueError as error:
                error.add_note(f"in an argument of {type(self).__name__}")
                raise
            self._settings = settings
        return self._built  # type: ignore[no-any-return]

    def update(self, params: Any, grads: Any) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        params : list of arrays
            The parameters, arrays of floats; the same arrays at each update.
        grads : list of arrays
            Their gradients, in the same order. A parameter with gradient `None` is unchanged.

        Raises
        ------
        ValueError
            If the numbers or shapes of parameters and gradients differ. If the parameters have
            other shapes than at the first update. All parameters are then unchanged.
        """
        optimizer, arrays = self._optimizer(), list(params)
        gradients = _gradients(type(self).__name__, arrays, list(grads))
        if self._state is None:
            self._keep(optimizer.init(arrays))
        elif self._shapes and self._shapes != [(p.shape, p.dtype) for p in arrays]:
            raise ValueError(
                f"{type(self).__name__}.update: the parameters are {_shown(arrays)}, but at the "
                f"first update they were {_shown(self._slot())}; create a new optimizer for each "
                f"model"
            )
        self._state = update_in_place(optimizer, gradients, self._state, arrays)
        super().update(params, grads)

    def _keep(self, state: Any) -> None:
        self._state = state
        self._shapes = [(array.shape, array.dtype) for array in self._slot()]

    def _slot(self) -> list[Array]:
        """Return a list of state arrays with the shapes of the parameters; empty if none exists."""
        slots = (slot for part in self._state for slot in part)
        return next((slot for slot in slots if isinstance(slot, list)), [])

    def get_state(self, params: Any = ()) -> dict[str, Any]:
        """Return a copy of the state of the optimizer: a tree of arrays and numbers.

        Parameters
        ----------
        params : list of arrays, optional
            The parameters, required before the first update.
        """
        state = self._optimizer().init(list(params)) if self._state is None else self._state
        return {**super().get_state(), "slots": tree.copied(state)}

    def set_state(self, state: Any) -> None:
        """Set the state of an optimizer with the same arguments.

        Parameters
        ----------
        state : dict
            The result of :meth:`get_state`.

        Raises
        ------
        ValueError
            If the state belongs to another class.
        """
        mine, given = [
            [type(part).__name__ for part in slots]
            for slots in (self._optimizer().init([]), state["slots"])
        ]
        if mine != given:
            raise ValueError(
                f"{type(self).__name__}.set_state: expected the states {mine}, got {given}; does "
                f"the state belong to another optimizer?"
            )
        for part in state["slots"]:
            if "count" in getattr(part, "_fields", ()):
                _count(type(self).__name__, part.count)
        super().set_state(state)
        self._keep(tree.copied(state["slots"]))


def _gradients(name: str, params: list[Any], grads: list[Any]) -> list[Array | None]:
    """Return the gradients in the data types of the parameters, or raise before any update."""
    if len(params) != len(grads):
        raise ValueError(
            f"{name}.update: got {len(params)} parameters, but {len(grads)} gradients; pass None "
            f"for a missing gradient"
        )
    found: list[Array | None] = []
    for i, (p, given) in enumerate(zip(params, grads, strict=True)):
        if not (isinstance(p, np.ndarray) and p.dtype.kind == "f" and p.flags.writeable):
            raise TypeError(
                f"{name}.update: params[{i}] must be a writable array of floats, got {describe(p)}"
            )
        g = None if given is None else np.asarray(given)
        if g is not None and (g.shape != p.shape or g.dtype.kind not in "fiub"):
            raise ValueError(
                f"{name}.update: params[{i}] is {describe(p)}, but its gradient is {describe(g)}"
            )
        found.append(g if g is None else g.astype(p.dtype, copy=False))
    return found


def _count(name: str, value: Any) -> int:
    """Return an update count, or raise."""
    if not is_int(value) or not 0 <= value < 1 << 63:
        raise ValueError(f"{name}.set_state: expected a number of updates, got {value!r:.40}")
    return int(value)


def _shown(arrays: list[Array]) -> str:
    return ", ".join(map(describe, arrays))
