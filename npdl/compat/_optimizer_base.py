"""The protocol of optimizers that change arrays in place, and one that keeps a functional one.

An optimizer of your own is a subclass of :class:`Optimizer`, which knows the learning rate and
counts the updates. Those in `optimizers.py` are subclasses of :class:`Functional`, which hands the
gradients through parts of `npdl.functional` and keeps their state.
"""

import math
from typing import Any, ClassVar

import numpy as np

import npdl.functional as F
from npdl import tree
from npdl._warn import warn
from npdl.compat._named import Named, argument_names
from npdl.functional._checks import check_number, is_int
from npdl.functional._layer import describe
from npdl.functional.optimizers._packed import update_in_place

__all__ = ["Functional", "Optimizer", "Slot", "npdl_clip"]

Array = np.ndarray[Any, Any]


def npdl_clip(grad: Any, boundary: float) -> Any:
    """Return a gradient with what is beyond ±boundary moved there; as it is, if that is ≤ 0.

    Parameters
    ----------
    grad : array
        The gradient.
    boundary : float
        The largest size of a number.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.optimizers import npdl_clip
    >>> npdl_clip(np.array([-3.0, 0.5]), 1.0), npdl_clip(np.array([-3.0]), -1)
    (array([-1. ,  0.5]), array([-3.]))
    """
    return F.clip_by_value(boundary).update(grad, ())[0] if boundary > 0 else grad


class Optimizer(Named):
    """The rate and the count of updates: the base class of optimizers of your own.

    Parameters
    ----------
    lr : float
        The learning rate, not negative.
    clip : float
        Gradients are clipped to ±clip; not at all, if it is ≤ 0.
    decay : float
        How fast the rate falls: it is ``lr / (1 + decay · iterations)``.
    lr_min, lr_max : float
        The bounds of the rate.

    Attributes
    ----------
    iterations : int
        How many updates were made.

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
    # Those of a subclass that does not call this constructor.
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
        """The learning rate of the next update; what is assigned is the rate from now on."""
        rate = self._first_rate / (1 + self.decay * self.iterations)
        return min(max(rate, self.lr_min), self.lr_max)

    @lr.setter
    def lr(self, value: float) -> None:
        rate = check_number(value, f"{type(self).__name__}(lr=0.001)", "of at least 0")
        self._first_rate = rate * (1 + self.decay * self.iterations)

    @property
    def learning_rate(self) -> float:
        """The same as `lr`."""
        return self.lr

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.lr = value

    def update(self, params: Any, grads: Any) -> None:
        """Count an update; a subclass of your own changes the parameters first.

        Parameters
        ----------
        params : list of arrays
            The parameters, which are changed in place.
        grads : list of arrays
            Their gradients, in the same order.
        """
        self.iterations += 1

    def get_state(self, params: Any = ()) -> dict[str, Any]:
        """Return a copy of what the next update depends on: a tree of arrays and numbers.

        Parameters
        ----------
        params : list of arrays, optional
            The parameters, for an optimizer that has not seen them yet.
        """
        return {"iterations": self.iterations, "lr": self._first_rate}

    def set_state(self, state: Any) -> None:
        """Go on from the state of an optimizer with the same arguments.

        Parameters
        ----------
        state : dict
            What :meth:`get_state` returned.

        Raises
        ------
        ValueError
            If the count or the rate is not one; nothing is changed then.
        """
        name = type(self).__name__
        iterations = _count(name, state["iterations"])
        rate = check_number(state["lr"], f"{name}(lr=0.001)", "of at least 0")
        self.iterations, self._first_rate = iterations, float(rate)

    def to_json(self) -> dict[str, Any]:
        """Return the configuration: the class and its arguments, as JSON values."""
        if type(self) is Optimizer:
            raise NotImplementedError("Optimizer.to_json")
        return super().to_json()


class Slot:
    """An attribute for arrays of the state: one for each parameter; `None` before an update.

    Parameters
    ----------
    field : str
        Their name in the state of the functional optimizer.
    decay : str, optional
        The attribute β, if that state holds ``array / (1 - β)``; these arrays are then copies.
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
    """An optimizer that hands gradients through the parts that :meth:`_parts` returns."""

    # The bounds of plausible values of the first argument, where it is not the rate.
    plausible: ClassVar[tuple[float, float]] = (0.5, math.inf)

    _state: Any = None
    _shapes: Any = None  # of the parameters that the arrays of the state belong to
    _settings: Any = None  # of the parts that were made last
    _made: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._optimizer()  # raises where the numbers are given

    @classmethod
    def _rearranged(cls, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        names = [*argument_names(cls)]
        before = names.index("lr")
        if not before and len(args) > 1 and 0.8 <= args[1] < 1:
            warn(
                f"{cls.__name__}({args[0]!r}, {args[1]!r}) clips gradients to ±{args[1]!r}; "
                f"Momentum(momentum={args[1]!r}, lr={args[0]!r}) is SGD with momentum; clip= by "
                f"keyword is silent"
            )
        if 0 < len(args) <= before and {"lr", "learning_rate"}.isdisjoint(keywords):
            first, (low, high) = args[0], cls.plausible
            if isinstance(first, int | float | np.number) and not low <= first < high:
                raise ValueError(
                    f"{cls.__name__}({first!r}) would set {names[0]}, which comes first; the rate "
                    f"is passed by keyword, as in {cls.__name__}(lr=0.001), and so is such a value "
                    f"of {names[0]}"
                )
        return args, keywords

    def _parts(self) -> list[F.Optimizer]:
        """Return the parts of the optimizer, whose rate is `self._rate`."""
        raise NotImplementedError

    def _rate(self, count: int) -> float:
        return self.lr

    def _optimizer(self) -> F.Optimizer:
        """Return the functional optimizer; attributes may be changed between updates."""
        settings = {
            name: value
            for name, value in vars(self).items()
            if name[0] != "_" and name != "iterations"
        }
        if settings != self._settings:
            # An empty chain passes gradients on, and its state is there with and without clipping.
            clipping = F.clip_by_value(self.clip) if self.clip > 0 else F.chain()
            try:
                self._made = F.chain(clipping, *self._parts())
            except ValueError as error:
                error.add_note(f"in an argument of {type(self).__name__}")
                raise
            self._settings = settings
        return self._made  # type: ignore[no-any-return]

    def update(self, params: Any, grads: Any) -> None:
        """Change the parameters in place.

        Parameters
        ----------
        params : list of arrays
            The parameters, of floats; the same at each update.
        grads : list of arrays
            Their gradients, in the same order; where one is `None`, the parameter stays.

        Raises
        ------
        ValueError
            If the numbers or shapes of parameters and gradients differ, or the parameters have
            other shapes than at the first update. Nothing is changed then.
        """
        optimizer, arrays = self._optimizer(), list(params)
        gradients = _gradients(type(self).__name__, arrays, list(grads))
        if self._state is None:
            self._keep(optimizer.init(arrays))
        elif self._shapes and self._shapes != [(p.shape, p.dtype) for p in arrays]:
            raise ValueError(
                f"{type(self).__name__}.update: the parameters are {_shown(arrays)}, but at the "
                f"first update they were {_shown(self._slot())}; each model needs an optimizer of "
                f"its own"
            )
        self._state = update_in_place(optimizer, gradients, self._state, arrays)
        super().update(params, grads)

    def _keep(self, state: Any) -> None:
        self._state = state
        self._shapes = [(array.shape, array.dtype) for array in self._slot()]

    def _slot(self) -> list[Array]:
        """Return arrays of the state that are like the parameters, if there are any."""
        slots = (slot for part in self._state for slot in part)
        return next((slot for slot in slots if isinstance(slot, list)), [])

    def get_state(self, params: Any = ()) -> dict[str, Any]:
        """Return a copy of what the next update depends on: a tree of arrays and numbers.

        Parameters
        ----------
        params : list of arrays, optional
            The parameters, for an optimizer that has made no update yet.
        """
        state = self._optimizer().init(list(params)) if self._state is None else self._state
        return {**super().get_state(), "slots": _copied(state)}

    def set_state(self, state: Any) -> None:
        """Go on from the state of an optimizer with the same arguments.

        Parameters
        ----------
        state : dict
            What :meth:`get_state` returned.

        Raises
        ------
        ValueError
            If it is that of another class.
        """
        mine, given = [
            [type(part).__name__ for part in slots]
            for slots in (self._optimizer().init([]), state["slots"])
        ]
        if mine != given:
            raise ValueError(
                f"{type(self).__name__}.set_state: expected the states {mine}, got {given}; is it "
                f"of another optimizer?"
            )
        for part in state["slots"]:
            if "count" in getattr(part, "_fields", ()):
                _count(type(self).__name__, part.count)
        super().set_state(state)
        self._keep(_copied(state["slots"]))


def _gradients(name: str, params: list[Any], grads: list[Any]) -> list[Array | None]:
    """Return the gradients in the types of the parameters, or raise before anything is changed."""
    if len(params) != len(grads):
        raise ValueError(
            f"{name}.update: got {len(params)} parameters, but {len(grads)} gradients; where there "
            f"is none, it is None"
        )
    found: list[Array | None] = []
    for i, (p, given) in enumerate(zip(params, grads, strict=True)):
        if not (isinstance(p, np.ndarray) and p.dtype.kind == "f" and p.flags.writeable):
            raise TypeError(
                f"{name}.update: params[{i}] must be an array of floats that can be written, got "
                f"{describe(p)}"
            )
        g = None if given is None else np.asarray(given)
        if g is not None and (g.shape != p.shape or g.dtype.kind not in "fiub"):
            raise ValueError(
                f"{name}.update: params[{i}] is {describe(p)}, but its gradient is {describe(g)}"
            )
        found.append(g if g is None else g.astype(p.dtype, copy=False))
    return found


def _count(name: str, value: Any) -> int:
    """Return a number of updates, or raise."""
    if not is_int(value) or not 0 <= value < 1 << 63:
        raise ValueError(f"{name}.set_state: expected a number of updates, got {value!r:.40}")
    return int(value)


def _shown(arrays: list[Array]) -> str:
    return ", ".join(map(describe, arrays))


def _copied(state: Any) -> Any:
    return tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, state)
