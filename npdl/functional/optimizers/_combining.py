"""Optimizers built from optimizers: one after another, or each for some of the parameters.

>>> import numpy as np
>>> import npdl.functional as F
>>> optimizer = F.by_path({"*bias": F.sgd(0.1), "*": F.chain(F.clip_by_value(1.0), F.sgd(0.1))})
>>> grads = {"weight": np.array([9.0]), "bias": np.array([9.0])}
>>> optimizer.update(grads, optimizer.init(grads))[0]
{'weight': array([-0.1]), 'bias': array([-0.9])}
"""

import fnmatch
from collections.abc import Sequence
from typing import Any

from npdl import tree
from npdl._calls import shown
from npdl._constructor import constructor
from npdl.functional._layer import Params
from npdl.functional.optimizers._optimizer import (
    Optimizer,
    Rules,
    Select,
    State,
    Updates,
    aligned,
    check_leaf,
    followers,
    state_name,
)
from npdl.tree import Tree

__all__ = ["by_path", "chain", "check_optimizer", "masked"]


@constructor
def chain(*parts: Optimizer) -> Optimizer:
    """Apply transforms one after another: ``u = fₙ(… f₂(f₁(g)))``.

    Parameters
    ----------
    *parts : Optimizer
        Any number of transforms or optimizers; an empty chain returns gradients unchanged.

    Returns
    -------
    Optimizer
        Its state is the tuple of the states of the transforms. The chain is element-wise if all
        transforms are.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.adam(1e-3) == F.chain(F.scale_by_adam(), F.scale_by_learning_rate(1e-3))
    True
    """
    for i, part in enumerate(parts):
        check_optimizer(part, f"chain: argument {i}", "chain(clip_by_value(1.0), adam(1e-3))")

    def init(params: Params) -> State:
        return tuple(part.init(params) for part in parts)

    rules = [part.rule for part in parts]
    paired = followers(rules)
    count = len(parts)

    def update(grads: Any, state: State, params: Params = None) -> tuple[Updates, State]:
        if type(state) is not tuple or len(state) != count:
            _check_state("chain", count, state)
        states: list[State] = []
        i = 0
        try:
            while i < count:
                if (follower := paired[i]) is None:
                    grads, new = parts[i].update(grads, state[i], params)
                    states.append(new)
                else:
                    i += 1  # for the note: an error here comes from the follower
                    number, after = follower.number(state[i])  # type: ignore[misc]
                    i -= 1
                    grads, new = parts[i].update(grads, state[i], params, factor=number)
                    states += new, after
                i = len(states)
        except Exception as error:
            error.add_note(f"in chain[{i}] = {parts[i]!r}")
            raise
        return grads, tuple(states)

    # A factor of all gradients can only precede the rules.
    known = [rule for rule in rules if rule is not None]
    if len(known) < count or any(rule.factor for rule in known[1:]):
        return Optimizer(init, update)
    return Optimizer(init, update, Rules(tuple(known), known[0].factor if known else None))


def _check_state(name: str, count: int, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) != count:
        raise ValueError(
            f"{name}: expected the states of {count} optimizers, got {state_name(state)}, of "
            f"another optimizer; initialize a new state: state = optimizer.init(params)"
        )


@constructor
def masked(optimizer: Optimizer, select: Select) -> Optimizer:
    """Apply an optimizer to selected parameters; the gradients of the others stay unchanged.

    ``u = f(g)`` for selected paths, and ``u = g`` for the others.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer; the gradients of unselected paths are `None` in its calls.
    select : str, tuple of str or callable
        A glob or several, such as ``"*/weight"`` or ``"0/*"``; it selects matching paths, and ``*``
        matches any text, including slashes. Or a function of the path that returns a boolean.

    Raises
    ------
    ValueError
        From `init`, if no path is selected.

    Examples
    --------
    >>> import npdl.functional as F
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> optimizer = F.masked(F.clip_by_value(0.5), "*weight")
    >>> grads = {"weight": np.ones(2), "bias": np.ones(1)}
    >>> optimizer.update(grads, optimizer.init(grads))[0]
    {'weight': array([0.5, 0.5]), 'bias': array([1.])}
    """
    check_optimizer(optimizer, "masked: the first argument", 'masked(scale(0.1), "*/bias")')
    _check_select("masked", select)
    return _grouped("masked", [(select, optimizer)], whole=False)


@constructor
def by_path(optimizers: dict[Select, Optimizer]) -> Optimizer:
    """Choose the optimizer of each parameter by its path.

    ``u = fₖ(g)``, where k is the first selection that matches the path.

    Parameters
    ----------
    optimizers : dict
        Maps selections, as in :func:`masked`, to the optimizers of the selected parameters. The
        first match counts. Each optimizer gets only its own parameters.

    Raises
    ------
    ValueError
        From `init`, if a path is not matched, or if an optimizer gets no parameters.

    Examples
    --------
    >>> import npdl.functional as F
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> optimizer = F.by_path({"*bias": F.sgd(1.0), "*": F.sgd(0.1)})
    >>> grads = {"weight": np.ones(2), "bias": np.ones(1)}
    >>> optimizer.update(grads, optimizer.init(grads))[0]
    {'weight': array([-0.1, -0.1]), 'bias': array([-1.])}
    """
    call = 'by_path({"*/bias": sgd(0.1), "*": adam(1e-3)})'
    if not isinstance(optimizers, dict) or not optimizers:
        raise TypeError(f"by_path takes a dict, as in {call}, got {shown(optimizers)}")
    for select, optimizer in optimizers.items():
        _check_select("by_path", select)
        check_optimizer(optimizer, f"by_path: the value of {select!r}", call)
    return _grouped("by_path", list(optimizers.items()), whole=True)


def _grouped(name: str, groups: Sequence[tuple[Select, Optimizer]], whole: bool) -> Optimizer:
    """Apply to each leaf the first group that selects it; with `whole`, every leaf needs one."""

    def choose(like: Tree) -> list[int | None]:
        paths = tree.paths(like)
        chosen = [
            next((i for i, (select, _) in enumerate(groups) if _matches(select, path)), None)
            for path in paths
        ]
        if whole and None in chosen:
            lost = [path for path, i in zip(paths, chosen, strict=True) if i is None]
            raise ValueError(
                f'{name}: no pattern matches {", ".join(lost)}; add "*" as the last pattern'
            )
        return chosen

    def only(i: int, leaves: list[Any], chosen: list[int | None], like: Tree) -> Tree:
        pairs = zip(leaves, chosen, strict=True)
        return tree.unflatten(like, [leaf if choice == i else None for leaf, choice in pairs])

    def init(params: Params) -> State:
        chosen, leaves = choose(params), tree.leaves(params)
        for i, (select, _) in enumerate(groups):
            if leaves and i not in chosen:
                raise ValueError(
                    f"{name}: no parameter is left for {select!r}, of the paths "
                    f"{', '.join(tree.paths(params))}; the first match counts"
                )
        return tuple(
            optimizer.init(only(i, leaves, chosen, params))
            for i, (_, optimizer) in enumerate(groups)
        )

    def update(grads: Any, state: State, params: Params = None) -> tuple[Updates, State]:
        _check_state(name, len(groups), state)
        like = grads if params is None else params
        chosen, gradients = choose(like), aligned("gradients", grads, like)
        for path, g in zip(tree.paths(like), gradients, strict=True):
            check_leaf(g, f"the gradient of {path}")
        updates, states = list(gradients), []
        for i, (_, optimizer) in enumerate(groups):
            mine = None if params is None else only(i, tree.leaves(params), chosen, like)
            part, new = optimizer.update(only(i, gradients, chosen, like), state[i], mine)
            states.append(new)
            for j, u in enumerate(tree.aligned(part, like)):
                if chosen[j] == i:
                    updates[j] = u
        return tree.unflatten(like, updates), tuple(states)

    return Optimizer(init, update)


def _matches(select: Select, path: str) -> bool:
    if callable(select):
        return bool(select(path))
    patterns = (select,) if isinstance(select, str) else select
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _check_select(name: str, select: Any) -> None:
    patterns = select if isinstance(select, tuple | list) else (select,)
    if callable(select) or (patterns and all(isinstance(item, str) for item in patterns)):
        return
    raise TypeError(
        f"{name}: expected a pattern of paths, such as '*/bias', a tuple of patterns or a function "
        f"of the path, got {shown(select)}"
    )


def check_optimizer(value: Any, what: str, call: str) -> None:
    """Raise unless `value` is an optimizer."""
    if not isinstance(value, Optimizer):
        raise TypeError(f"{what} is {shown(value)}, not an optimizer; a right call is {call}")
