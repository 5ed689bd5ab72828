"""The declaration of a combinator's parts, in the notation of a graph, and its checks."""

from typing import Any

from npdl._calls import shown
from npdl.functional._checks import check_flag, check_int, refusal
from npdl.functional._layer import Layer
from npdl.functional.combinators._parts import Names, Node, Parts, flat, nested

__all__ = ["declared", "parts"]


def parts(
    inputs: str | tuple[Any, ...],
    nodes: dict[Any, tuple[Any, ...]],
    outputs: str | tuple[Any, ...],
    *,
    optional: int = 0,
    trained: bool = True,
) -> Parts:
    """Declare the parts of a combinator of your own, in the notation of :func:`graph`.

    `summary`, pictures, the readers of weights, `freeze` and ``check_finite=True`` then see the
    children of ``F.Layer(init, apply, backward, parts=F.parts(...))``. All computations of `apply`
    are nodes: sums and products are the layers :func:`add` and :func:`multiply`. Node *i* gets the
    key ``fold(rng, i)``; nodes without parameters are not counted.

    Parameters
    ----------
    inputs : str or tuple
        Names of the inputs. The last name may be ``"*more"``, for any number of further inputs.
    nodes : dict
        ``name: (layer, sources)`` or ``name: (layer, sources, path)``. The path is the tuple of
        keys that lead to the layer's parameters; by default, it is the name. It is `None` for a
        layer without parameters. The path ``()`` means all parameters and the key of the
        combinator. Several nodes with one path share parameters.
    outputs : str or tuple
        Names of the outputs.
    optional : int
        Number of optional inputs, counted from the last.
    trained : bool
        Whether the parameters get gradients; False for constants, as in :func:`freeze`.

    Returns
    -------
    Parts
        A record with ``inputs``, ``nodes``, ``outputs``, ``optional`` and ``trained``.

    Raises
    ------
    TypeError
        If a node is not a tuple of a layer and its sources, or a name is not a string.
    ValueError
        If a name is unknown or used twice.

    Examples
    --------
    >>> import npdl.functional as F
    >>> declared = F.parts(
    ...     "x",
    ...     {"gate": (F.dense(3), "x"), "y": (F.multiply(), ("x", "gate"), None)},
    ...     "y",
    ... )
    >>> [node.path for node in declared.nodes]
    [('gate',), None]
    """
    return declared("", inputs, nodes, outputs, optional=optional, trained=trained)


def declared(
    name: str, inputs: Names, nodes: Any, outputs: Names, *, optional: int = 0, trained: bool = True
) -> Parts:
    """Return the declaration of a combinator; its errors begin with `name`."""
    who = name or "parts"
    call = f'{who}("x", {{"y": (dense(8), "x")}}, outputs="y")'
    for names in (inputs, outputs):
        several = names if isinstance(names, tuple | list) else (names,)
        if None in several or not all(isinstance(each, str) for each in flat(names)):
            right = call if names is outputs else f'{who}(inputs="x", …)'
            raise TypeError(refusal(names, right, "a name or a tuple of names"))
    if not isinstance(nodes, dict):
        raise TypeError(refusal(nodes, f'{who}("x", nodes={{"y": (dense(8), "x")}}, …)', "a dict"))
    known: dict[str, None] = {}
    _add_names(who, known, inputs)
    records, number = [], 0
    paths: dict[Any, None] = {}
    for names, value in nodes.items():
        node = _node(who, names, value, number)
        if who == "graph" and len(value) > 2:
            _check_shared(names, value[2], paths)
        paths[node.path] = None
        number += node.path is not None
        for source in node.read:
            if source not in known:
                raise ValueError(
                    f"{who}: node {names!r} reads {source!r}, which is neither an input nor an "
                    f"earlier node; known here are {', '.join(map(repr, known))}"
                )
        _add_names(who, known, node.names)
        records.append(node)
    for each in flat(outputs):
        if each not in known:
            raise ValueError(
                f"{who}: the output {each!r} is neither an input nor a node; known are "
                f"{', '.join(map(repr, known))}"
            )
    return Parts(
        nested(inputs),
        tuple(records),
        nested(outputs),
        check_int(optional, f"{who}(…, optional=1)", 0),
        check_flag(trained, f"{who}(…, trained=False)"),
        name,
    )


def _node(who: str, names: Names, value: Any, number: int) -> Node:
    if not (
        isinstance(value, tuple | list) and len(value) in (2, 3) and isinstance(value[0], Layer)
    ):
        raise TypeError(
            f"{who}: node {names!r} must be (layer, source) or (layer, (source, source)), "
            f"got {shown(value)}"
        )
    single = flat(names)
    if not single or not all(isinstance(name, str) for name in single):
        raise TypeError(
            f"{who}: the key of a node must be a name or a tuple of names, got {shown(names)}"
        )
    child, sources, *rest = value
    path = rest[0] if rest else single[:1]
    if who == "graph" and rest:
        path = (path,)
    if path is not None and not isinstance(path, tuple | list):
        raise TypeError(
            f"{who}: the path of node {names!r} must be None or a tuple of keys, as in (0,), got "
            f"{shown(path)}"
        )
    path = None if path is None else tuple(path)
    return Node(nested(names), child, nested(sources), path, number if path else None)


def _check_shared(names: Names, other: Any, paths: dict[Any, None]) -> None:
    if not isinstance(other, str) or (other,) not in paths:
        earlier = ", ".join(repr(path[0]) for path in paths if path)
        raise ValueError(
            f"graph: node {names!r} shares the parameters of {shown(other)}, which is not an "
            f"earlier node; earlier nodes are {earlier or 'none'}"
        )


def _add_names(who: str, known: dict[str, None], names: Names) -> None:
    for name in flat(names):
        if name in known:
            raise ValueError(f"{who}: the name {name!r} is used twice")
        known[name] = None
