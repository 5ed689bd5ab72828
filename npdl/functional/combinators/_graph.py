"""Layers connected by name: models with several inputs, outputs and ways between them."""

from typing import Any

from npdl import random, tree
from npdl._calls import shown
from npdl.functional._checks import refusal
from npdl.functional._layer import (
    Array,
    Layer,
    Params,
    Shape,
    check_arrays,
    check_mode,
    describe,
    layer,
    no_params,
)
from npdl.functional.combinators._serial import is_trained, note_place, short, stats_of

__all__ = ["add", "graph"]


@layer
def graph(
    inputs: str | tuple[str, ...],
    nodes: dict[str | tuple[str, ...], tuple[Layer, Any]],
    outputs: str | tuple[str, ...],
) -> Layer:
    """Connect layers by name, with any number of inputs and outputs.

    Parameters
    ----------
    inputs : str or tuple of str
        Names of the inputs: one name, or a tuple for a model that takes a tuple.
    nodes : dict
        ``name: (layer, source)`` or ``name: (layer, (source, source, …))``, each after the nodes
        that it reads; a source is the name of an input or of a node, or `None` for an input of
        the layer that is left out. A layer with several outputs has a tuple of names.
    outputs : str or tuple of str
        Names of what the model returns.

    Returns
    -------
    Layer
        Its parameters are a dict by node name (by the first one, where there are several).

    Examples
    --------
    >>> import npdl.functional as F
    >>> model = F.graph(
    ...     ("left", "right"),
    ...     {
    ...         "both": (F.parallel(F.dense(4), join=None), "left"),
    ...         "other": (F.dense(3), "right"),
    ...     },
    ...     ("both", "other"),
    ... )
    >>> model.out_shape(((5,), (6,)))
    (((4,),), (3,))
    """
    steps = _graph_steps(inputs, nodes, outputs)
    nodes_named = dict.fromkeys(name for name, _, _, _ in steps).keys()

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        key, params = random.key(rng), {}
        values = _bind(inputs, shape)
        for i, (name, child, sources, names) in enumerate(steps):
            given = _lookup(values, sources)
            try:
                params[name] = child.init((*key, i), given)
                values |= _bind(names, child.out_shape(given))
            except Exception as error:
                error.add_note(f"in graph[{name!r}] = {short(child)}, made for the shape {given}")
                raise
        return params

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: random.KeyLike | None = None
    ) -> tuple[Any, Any]:
        check_mode(train, rng)
        key = None if rng is None else random.key(rng)
        if not isinstance(params, dict) or params.keys() != nodes_named:
            raise ValueError(
                f"graph: expected a dict of the parameters of {', '.join(nodes_named)}, as "
                f"init(rng, shape) returns it, got {describe(params)}; are they of another model?"
            )
        values, caches = _bind(inputs, x), {}
        for i, (name, child, sources, names) in enumerate(steps):
            given = _lookup(values, sources)
            try:
                y, caches[name] = child.apply(
                    params[name], given, train=train, rng=None if key is None else (*key, i)
                )
                values |= _bind(names, y)
            except Exception as error:
                note_place(error, f"graph[{name!r}]", child, params[name], given)
                raise
        return _lookup(values, outputs), caches

    def backward(
        params: Params, caches: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        needed = dict.fromkeys(_names(inputs), input_grad)
        for name, child, sources, names in steps:
            inside = any(needed[source] for source in _names(sources))
            needed |= dict.fromkeys(_names(names), inside or is_trained(child, params[name]))
        flow: dict[str, Any] = {}
        _send(flow, outputs, g)
        grads: dict[str, Any] = dict.fromkeys(params)
        for name, child, sources, names in reversed(steps):
            given = _lookup(flow, names)
            for each in _names(names):
                flow.pop(each, None)
            if given is None or not any(needed[each] for each in _names(names)):
                continue
            try:
                grads[name], dx = child.backward(
                    params[name],
                    caches[name],
                    given,
                    input_grad=any(needed[source] for source in _names(sources)),
                )
            except Exception as error:
                error.add_note(
                    f"in backward of graph[{name!r}] = {short(child)}, given {describe(given)}"
                )
                raise
            _send(flow, sources, dx)
        return grads, _lookup(flow, inputs) if input_grad else None

    def out_shape(shape: Shape) -> Shape:
        values = _bind(inputs, shape)
        for _, child, sources, names in steps:
            values |= _bind(names, child.out_shape(_lookup(values, sources)))
        return _lookup(values, outputs)  # type: ignore[no-any-return]

    def update_stats(params: Params, caches: Any) -> Params:
        if caches is None:
            return params
        return {
            name: child.update_stats(params[name], caches.get(name)) for name, child, _, _ in steps
        }

    children = [child for _, child, _, _ in steps]
    return Layer(init, apply, backward, out_shape, stats_of(children, update_stats))


@layer
def add() -> Layer:
    """Add up several inputs: ``y = x₁ + x₂ + …``, a node where ways of a :func:`graph` meet.

    Returns
    -------
    Layer
        From two or more arrays of one shape to that shape.

    Raises
    ------
    ValueError
        If there is one input only, or the shapes differ.
    TypeError
        If the data types differ.

    Examples
    --------
    >>> import npdl.functional as F
    >>> model = F.graph(
    ...     "x",
    ...     {"f": (F.dense(3), "x"), "g": (F.tanh(), "f"), "y": (F.add(), ("f", "g", "x"))},
    ...     "y",
    ... )
    >>> model.out_shape((3,))
    (3,)
    """

    def apply(params: Params, x: tuple[Array, ...]) -> tuple[Array, int]:
        if not isinstance(x, tuple) or len(x) < 2 or any(part is None for part in x):
            raise ValueError(f"add: expected a tuple of two or more arrays, got {describe(x)}")
        first = x[0]
        check_arrays(x, "add")
        if any(part.shape != first.shape for part in x):
            raise ValueError(f"add: the shapes must be equal, got {describe(x)}")
        if any(part.dtype != first.dtype for part in x):
            raise TypeError(
                f"add: the data types must be equal, since nothing is promoted silently, got "
                f"{describe(x)}"
            )
        y = first + x[1]
        for part in x[2:]:
            y += part
        return y, len(x)

    def backward(params: Params, count: int, g: Array) -> tuple[None, tuple[Array, ...]]:
        return None, (g,) * count

    def out_shape(shape: Shape) -> Shape:
        shapes = [tuple(part) if isinstance(part, tuple | list) else part for part in shape]
        if len(shapes) < 2 or any(part != shapes[0] for part in shapes):
            raise ValueError(f"add: expected two or more equal shapes, got {shape}")
        return shapes[0]

    return Layer(no_params, apply, backward, out_shape)


Step = tuple[str, Layer, Any, Any]  # name, layer, sources, names of the outputs


def _graph_steps(inputs: Any, nodes: dict[Any, Any], outputs: Any) -> list[Step]:
    call = 'graph("x", {"y": (dense(8), "x")}, outputs="y")'
    for names in (inputs, outputs):
        several = isinstance(names, tuple | list)
        if not all(isinstance(name, str) for name in (names if several else (names,))):
            place = call if names is outputs else 'graph(inputs="x", …)'
            raise TypeError(refusal(names, place, "a name or a tuple of names"))
    if not isinstance(nodes, dict):
        raise TypeError(refusal(nodes, 'graph("x", nodes={"y": (dense(8), "x")}, …)', "a dict"))
    known: list[str] = []
    for name in _names(inputs):
        _add_name(known, name)
    steps: list[Step] = []
    for names, node in nodes.items():
        if not (isinstance(node, tuple | list) and len(node) == 2 and isinstance(node[0], Layer)):
            raise TypeError(
                f"graph: node {names!r} must be (layer, source) or (layer, (source, source)), "
                f"got {shown(node)}"
            )
        child, sources = node[0], tuple(node[1]) if isinstance(node[1], list) else node[1]
        for source in _names(sources):
            if source not in known:
                raise ValueError(
                    f"graph: node {names!r} reads {source!r}, which is neither an input nor an "
                    f"earlier node; known here are {', '.join(map(repr, known))}"
                )
        for name in _names(names):
            _add_name(known, name)
        steps.append((_names(names)[0], child, sources, names))
    for name in _names(outputs):
        if name not in known:
            raise ValueError(
                f"graph: no node or input is called {name!r}, which is asked for as output; "
                f"there are {', '.join(map(repr, known))}"
            )
    return steps


def _add_name(known: list[str], name: str) -> None:
    if name in known:
        raise ValueError(f"graph: the name {name!r} is used twice")
    known.append(name)


def _names(names: Any) -> list[str]:
    given = names if isinstance(names, tuple | list) else (names,)
    return [name for name in given if name is not None]


def _bind(names: Any, values: Any) -> dict[str, Any]:
    if isinstance(names, str):
        return {names: values}
    if not isinstance(values, tuple | list) or len(values) != len(names):
        raise ValueError(
            f"graph: expected a tuple of {len(names)} for {', '.join(names)}, got "
            f"{describe(values)}"
        )
    return dict(zip(names, values, strict=True))


def _lookup(values: dict[str, Any], names: Any) -> Any:
    """Return the value of a name, or the tuple of several; all missing is `None` altogether."""
    if names is None or isinstance(names, str):
        return values.get(names)  # type: ignore[arg-type]
    found = tuple(values.get(name) for name in names)
    return None if all(item is None for item in found) else found


def _send(flow: dict[str, Any], names: Any, g: Any) -> None:
    """Add gradients to what has already flowed to these names."""
    if g is None or names is None:
        return
    pairs = [(names, g)] if isinstance(names, str) else zip(names, g, strict=True)
    for name, part in pairs:
        if name is not None and part is not None:
            flow[name] = tree.add(flow.get(name), part)
