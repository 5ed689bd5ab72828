"""The protocol of optimizers, and optimizers from an equation on arrays.

A training step, from gradients to new parameters::

    state          = optimizer.init(params)                      # once, before the first step
    updates, state = optimizer.update(grads, state, params)
    params         = apply_updates(params, updates)

An optimizer is a pair of pure functions. Its state is a tree, which includes the counts of updates.
A transform, such as :func:`trace` or :func:`scale_by_adam`, is an optimizer, too; a :func:`chain`
passes the output of one transform to the next, and the last output is the update.

The gradient `None`, of a leaf or of a whole subtree, means that it is not trained in this step. Its
update is `None`, its state stays unchanged, and :func:`apply_updates` keeps the parameter.

>>> import numpy as np
>>> import npdl.functional as F
>>> optimizer = F.chain(F.clip_by_global_norm(1.0), F.momentum(0.1))
>>> optimizer
chain(clip_by_global_norm(limit=1.0), chain(trace(decay=0.9),
      scale_by_learning_rate(learning_rate=0.1)))
>>> params = {"weight": np.ones(3, np.float32), "table": np.ones(2, np.float32)}
>>> state = optimizer.init(params)
>>> grads = {"weight": np.array([0.0, 3.0, 4.0], np.float32), "table": None}
>>> updates, state = optimizer.update(grads, state, params)
>>> F.apply_updates(params, updates)["weight"]
array([1.  , 0.94, 0.92], dtype=float32)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import attrs
import numpy as np

from npdl import tree
from npdl._constructor import Recorded
from npdl.functional._arrays import check_array, describe
from npdl.functional._kernels.scalars import as_scalar
from npdl.functional._layer import Params
from npdl.tree import Array, Tree

__all__ = [
    "Optimizer",
    "Rule",
    "Rules",
    "Select",
    "State",
    "Updates",
    "apply_updates",
    "elementwise",
    "scaling",
    "scheduled",
]

Updates: TypeAlias = Tree
Equation: TypeAlias = Callable[..., tuple[Any, ...]]
State: TypeAlias = Tree
Select: TypeAlias = str | tuple[str, ...] | Callable[[str], bool]
Factor: TypeAlias = Callable[[list[Array], list[float]], float | None]


# A slot with a gradient of zero, as of a dead unit, decays to subnormal numbers. Arithmetic with
# these is ten times as slow, and the smallest of them never round to zero. So rules with a count
# clear them in one of 128 updates.
_UPDATES = 128
_DUE = _UPDATES - 1


@attrs.frozen(eq=False, repr=False)
class Rule:
    """The equation of an element-wise update, for arrays.

    The new value of a number depends only on its own gradient, slots and parameter, and on counts.
    So arrays can be joined, or split into blocks. The state is ``()`` or a NamedTuple: an optional
    int ``count``, and slots, arrays of the shape and type of the parameter.

    Parameters
    ----------
    equation : callable
        ``equation(count, g, p, *slots) -> (u, *slots)``: see :func:`elementwise`.
    clearing : callable
        The same equation; it also sets subnormal slots to zero.
    state_type : type
        The type of the state.
    in_place : bool
        Whether the equation takes ``out``.
    takes_factor : bool
        Whether the equation takes ``factor``.
    number : callable, optional
        ``number(state) -> (number, state)``, if the rule only multiplies by a number. The previous
        rule can then use this number as its factor.
    """

    equation: Equation
    clearing: Equation
    state_type: type[tuple[Any, ...]]
    in_place: bool
    takes_factor: bool
    number: Callable[[State], tuple[float, State]] | None = None
    factor: ClassVar[None] = None
    # The number of entries of a state, and the index of its first slot.
    length: int = attrs.field(init=False)
    first: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        fields = getattr(self.state_type, "_fields", ())
        object.__setattr__(self, "length", len(fields))
        object.__setattr__(self, "first", 1 if fields[:1] == ("count",) else 0)

    def at(self, count: int) -> Equation:
        """Return the equation of the update number `count`, counted from 0."""
        return self.clearing if self.first and count % _UPDATES == _DUE else self.equation


@attrs.frozen(eq=False, repr=False)
class Rules:
    """The rules of a chain, one after another.

    Parameters
    ----------
    parts : tuple
        For each optimizer in the chain, its rule or rules.
    factor : callable, optional
        ``factor(gradients, squares) -> number or None``: a number to multiply all gradients by
        before the rules. It depends on the gradients and on the sum of squares of each one.
    """

    parts: "tuple[Rule | Rules, ...]"
    factor: Factor | None = None


Link: TypeAlias = tuple[Rule, Rule | None]
"""A rule, and the next one, if this rule multiplies by its number."""


def linked(rule: Rule | Rules) -> list[Link]:
    """Return the rules of an optimizer in a flat list."""
    if isinstance(rule, Rule):
        return [(rule, None)]
    links: list[Link] = []
    after = followers(rule.parts)
    for i, each in enumerate(rule.parts):
        if isinstance(each, Rule) and after[i] is not None:
            links.append((each, after[i]))
        elif not (i and after[i - 1]):
            links += linked(each)
    return links


def followers(rules: Sequence[Any]) -> list[Rule | None]:
    """Return for each rule of a chain the next one, if this rule multiplies by its number."""
    found: list[Rule | None] = []
    for i, rule in enumerate(rules):
        after = rules[i + 1] if i + 1 < len(rules) else None
        pairs = isinstance(rule, Rule) and rule.takes_factor
        pairs = pairs and isinstance(after, Rule) and after.number is not None
        found.append(after if pairs else None)
    return found


def update_arrays(
    links: Sequence[Link], g: Array, states: Sequence[State], p: Array, overwrite: bool
) -> tuple[Array, list[State]]:
    """Return the update of an array, and the next state of each rule.

    With `overwrite`, new slots are written into the arrays of the old ones.
    """
    after: list[State] = []
    for rule, follower in links:
        state, first = states[len(after)], rule.first
        if type(state) is not rule.state_type or len(state) != rule.length:
            raise foreign(state, rule.state_type)
        slots, count = state[first:], state[0] if first else 0
        equation = rule.clearing if first and count % _UPDATES == _DUE else rule.equation
        number = scaled = None
        if follower is not None:
            number, scaled = follower.number(states[len(after) + 1])  # type: ignore[misc]
        if rule.in_place:
            out = slots if overwrite else (None,) * len(slots)
            options = {"out": out} if number is None else {"out": out, "factor": number}
            g, *new = equation(count, g, p, *slots, **options)
        else:
            g, *new = equation(count, g, p, *slots)
            if overwrite:
                for i, array in enumerate(new):
                    np.copyto(slots[i], array)
                new = list(slots)
        after.append(tuple.__new__(rule.state_type, (count + 1, *new) if first else new))
        if follower is not None:
            after.append(scaled)
    return g, after


@attrs.frozen(eq=False, repr=False)
class Optimizer(Recorded):
    """A pair of pure functions: how to initialize a state, and how to compute updates.

    Parameters
    ----------
    init : callable
        ``init(params) -> state``.
    update : callable
        ``update(grads, state, params=None) -> (updates, state)``; the updates are to be added to
        the parameters.
    rule : Rule or Rules, optional
        The rule of an element-wise optimizer; for a chain, the rules in it.

    Examples
    --------
    An optimizer of two functions, whose updates depend only on the sign of the gradient:

    >>> import numpy as np
    >>> from npdl import tree
    >>> import npdl.functional as F
    >>> def update(grads, state, params=None):
    ...     return tree.map(lambda g: -0.1 * np.sign(g), grads), state
    >>> optimizer = F.Optimizer(lambda params: (), update)
    >>> optimizer.update(np.array([3.0, -0.5]), optimizer.init(np.zeros(2)))
    (array([-0.1,  0.1]), ())
    """

    init: Callable[[Params], State]
    update: Callable[..., tuple[Updates, State]]
    rule: Rule | Rules | None = None

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "init", _with_check(self.init))

    @property
    def elementwise(self) -> bool:
        """Whether the update of a number does not depend on other numbers."""
        return self.rule is not None and self.rule.factor is None


def sum_of_squares(g: Array) -> float:
    """Return the sum of the squares of a gradient; infinity if it is too large."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return float(np.vdot(g, g))


def _with_check(init: Callable[[Params], State]) -> Callable[[Params], State]:
    """Return `init` with a check of the parameters before it."""

    def checked(params: Params) -> State:
        for path, leaf in tree.items(params):
            if not _is_plain(leaf):
                check_leaf(leaf, f"the parameter {path}".rstrip())
        return init(params)

    return checked


def apply_updates(params: Params, updates: Updates) -> Params:
    """Add updates to parameters, which keep their data type: ``p = p + u``.

    Parameters
    ----------
    params : tree
        The parameters.
    updates : tree
        The updates from ``optimizer.update``. A parameter with the update `None` stays unchanged.

    Raises
    ------
    ValueError
        If the structures or shapes differ; the message has the path.
    TypeError
        If an array is a masked array, a matrix, or has floats other than float32 and float64.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> F.apply_updates({"a": np.ones(2), "b": np.ones(1)}, {"a": np.array([1.0, 2.0]), "b": None})
    {'a': array([2., 3.]), 'b': array([1.])}
    """
    if updates is None:
        return params
    changes = aligned("updates", updates, params)
    leaves = tree.leaves(params)
    for i, (leaf, change) in enumerate(zip(leaves, changes, strict=True)):
        if change is not None:
            if not (_is_plain(leaf) and _is_plain(change)):
                check_leaf(leaf, f"the parameter {_path(params, i)}")
                check_leaf(change, f"the update of {_path(params, i)}")
            if np.shape(change) != np.shape(leaf):
                raise ValueError(
                    f"the update of {_path(params, i)} is {describe(change)}, but the parameter "
                    f"is {describe(leaf)}"
                )
            leaves[i] = np.asarray(np.add(leaf, change, dtype=leaf.dtype))
    return tree.unflatten(params, leaves)


def elementwise(
    equation: Equation,
    state_type: type[tuple[Any, ...]] = tuple,
    initial: float = 0.0,
    in_place: bool = False,
    takes_factor: bool = False,
) -> Optimizer:
    """Build an optimizer from its equation on arrays.

    Parameters
    ----------
    equation : callable
        ``equation(count, g, p, *slots) -> (u, *slots)``, a pure and element-wise function of arrays
        with at least one axis. `count` is the number of previous updates (0 for a state without a
        count), and `p` is `None` if no parameters were passed.
    state_type : NamedTuple class
        Its fields are an optional ``count``, and the slots. By default, the state is ``()``.
    initial : float
        The initial value of all slots.
    in_place : bool
        Whether the equation has a keyword ``out``, a tuple of arrays for the new slots; they may be
        the old slots. Without `out`, and for `None` in it, the equation allocates new arrays.
    takes_factor : bool
        Whether the equation (in place) has a keyword ``factor``, a number to multiply `u` by.
    """
    fields: tuple[str, ...] = getattr(state_type, "_fields", ())
    rule = Rule(equation, _clearing(equation), state_type, in_place, takes_factor)
    first, new = rule.first, tuple.__new__  # NamedTuple.__new__ takes twice as long

    def init(params: Params) -> State:
        def slot(p: Any) -> Array:
            return np.full_like(p, initial, subok=False)

        slots = (tree.map(slot, params) for _ in fields[first:])
        return new(state_type, (*(0,)[:first], *slots))

    def update(
        grads: Any, state: State, params: Params = None, factor: float | None = None
    ) -> tuple[Updates, State]:
        if type(state) is not state_type or len(state) != rule.length:
            raise foreign(state, state_type)
        count = state[0] if first else 0
        scaled = rule.at(count)
        if factor is not None:
            scaled = functools.partial(scaled, factor=factor)
        if _is_plain(grads) and grads.ndim and _fits(grads, params, *state[first:]):
            result = scaled(count, grads, params, *state[first:])
        else:
            result = _by_leaf(scaled, count, grads, params, state[first:])
        slots = result[1:]
        return result[0], new(state_type, (count + 1, *slots) if first else slots)

    return Optimizer(init, update, rule)


def scaling(number: float) -> Optimizer:
    """Build an optimizer that multiplies by a number."""

    def constant(state: State) -> tuple[float, State]:
        if type(state) is not tuple or state:
            raise foreign(state, tuple)
        return number, state

    transform = elementwise(lambda count, g, p: (g * as_scalar(number, g.dtype),))
    return _multiplying(transform, constant)


def scheduled(number: Callable[[int], float], state_type: Any) -> Optimizer:
    """Build an optimizer that multiplies by a function of the count; the count is its state."""

    def of_count(state: State) -> tuple[float, State]:
        if type(state) is not state_type:
            raise foreign(state, state_type)
        return number(state[0]), state_type(state[0] + 1)

    transform = elementwise(lambda count, g, p: (g * number(count),), state_type)
    return _multiplying(transform, of_count)


def _multiplying(base: Optimizer, number: Callable[[State], tuple[float, State]]) -> Optimizer:
    return attrs.evolve(base, rule=attrs.evolve(base.rule, number=number))  # type: ignore[misc]


def foreign(state: State, state_type: Any) -> ValueError:
    """Return the error for the state of another optimizer."""
    fields = getattr(state_type, "_fields", ())
    listed = f" ({', '.join(fields)})" if fields else ""
    return ValueError(
        f"expected a state of the type {state_type.__name__} with {len(fields)} entries{listed}, "
        f"got {state_name(state)}, of another optimizer; initialize a new state: "
        f"state = optimizer.init(params)"
    )


def state_name(state: State) -> str:
    """Describe a state by its types: ``(TraceState(velocity), ())``."""
    if type(state) is tuple:
        return f"({', '.join(map(state_name, state))}{',' * (len(state) == 1)})"
    name, fields = type(state).__name__, getattr(state, "_fields", None)
    return f"a value of type {name}" if fields is None else f"{name}({', '.join(fields)})"


def _clearing(equation: Equation) -> Equation:
    """Return the equation with one more step: subnormal slots become zero if the gradient is 0."""

    def cleared(count: int, g: Array, *arrays: Any, **options: Any) -> tuple[Any, ...]:
        result = equation(count, g, *arrays, **options)
        kept = g != 0
        for slot in result[1:]:
            if slot.dtype.kind == "f":
                # Later slots divide earlier ones, and must not become zero before them.
                kept |= np.abs(slot) >= np.finfo(slot.dtype).tiny
                slot *= kept
        return result

    return cleared


def _fits(g: Array, *others: Any) -> bool:
    """Whether all others are `None` or arrays of the shape and type of a gradient."""
    for other in others:
        if other is not None and not (
            type(other) is np.ndarray and g.shape == other.shape and g.dtype == other.dtype
        ):
            return False
    return True


def _is_plain(leaf: Any) -> bool:
    """Whether a leaf passes a fast check for valid arrays."""
    return type(leaf) is np.ndarray and 4 <= leaf.itemsize <= 8


def check_leaf(leaf: Any, what: str) -> None:
    """Raise for subclasses of arrays, such as masked arrays, and for float16 and bfloat16."""
    if isinstance(leaf, np.ndarray | np.generic):
        check_array(leaf, what)


def _by_leaf(
    equation: Equation, count: int, grads: Any, params: Params, slots: Sequence[Any]
) -> tuple[Any, ...]:
    """Apply a rule to each leaf that has a gradient."""
    like = params if params is not None else slots[0] if slots else grads
    gradients = aligned("gradients", grads, like)
    parameters = tree.leaves(params) if params is not None else [None] * len(gradients)
    columns = [aligned("state", slot, like) for slot in slots]
    updates = list(gradients)
    for i, (g, p) in enumerate(zip(gradients, parameters, strict=True)):
        if g is None:
            continue
        old = [column[i] for column in columns]
        g, p = checked_gradient(g, p, old, like, i)
        if g.ndim:
            updates[i], *new = equation(count, g, p, *old)
        else:
            # NumPy functions return scalars for 0-d arrays, and scalars cannot be written to.
            flat = (x if x is None else x.reshape(1) for x in (g, p, *old))
            updates[i], *new = (x.reshape(()) for x in equation(count, *flat))
        for column, slot in zip(columns, new, strict=True):
            column[i] = slot
    parts = zip((like, *slots), (updates, *columns), strict=True)
    return tuple(tree.unflatten(structure, leaves) for structure, leaves in parts)


def checked_gradient(
    g: Any, p: Any, slots: Sequence[Array], like: Tree, i: int
) -> tuple[Array, Array | None]:
    """Return a gradient and its parameter (or `None`) as valid arrays.

    Raises
    ------
    TypeError, ValueError
        Unless the gradient has the shape and type of its parameter and slots.
    """
    if not (_is_plain(g) and (p is None or _is_plain(p))):
        check_leaf(p, f"the parameter {_path(like, i)}")
        check_leaf(g, f"the gradient of {_path(like, i)}")
        g, p = np.asarray(g), p if p is None else np.asarray(p)
    for other in (p, *slots):
        if not _fits(g, other):
            error = ValueError if g.shape != other.shape else TypeError
            raise error(
                f"the gradient of {_path(like, i)} is {describe(g)}, but the parameter, or its "
                f"state from optimizer.init(params), is {describe(other)}; nothing is "
                f"broadcast or promoted silently"
            )
    return g, p


def aligned(role: str, values: Tree, like: Tree) -> list[Any]:
    """Return one leaf of `values`, or `None`, for each leaf of `like`; `role` is for the error."""
    try:
        return tree.aligned(values, like)
    except ValueError as error:
        error.add_note(f"the {role} (first) must have the structure of the parameters (second)")
        if role == "state":
            error.add_note("a new state for these parameters is optimizer.init(params)")
        raise


def _path(like: Tree, i: int) -> str:
    return tree.paths(like)[i] or "the params"
