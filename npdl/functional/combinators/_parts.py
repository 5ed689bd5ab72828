"""The structure of a combinator: its children, and the values that each child reads.

This record is the only view of a model for all tools: summary, pictures, weights of other
libraries, `freeze`, and the search for numbers that are not finite.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from npdl.functional._arrays import describe, is_several
from npdl.functional._layer import Layer, Params, Shape

__all__ = [
    "Names",
    "Node",
    "Parts",
    "at",
    "bound",
    "flat",
    "found",
    "nested",
]

# A name, `None` for a missing input, or a tuple of these.
Names: TypeAlias = Any
# The keys that lead to the parameters of a child; `None` without parameters.
Path: TypeAlias = "tuple[int | str, ...] | None"


@attrs.frozen
class Node:
    """A child of a combinator.

    Parameters
    ----------
    names : str or tuple of str
        Names of its outputs.
    layer : Layer
        The child.
    sources : str, None or tuple
        Names of the values that it reads.
    path : tuple, optional
        The keys that lead to its parameters; `None` for a child without parameters.
    number : int, optional
        The number in its key, ``fold(rng, number)``; `None` for the key of the combinator.
    written, read : tuple of str
        The single names of its outputs and sources.
    plain : callable, optional
        ``apply(params, x)`` of a layer without mode and key, which saves the time of an adapter.
    """

    names: Names
    layer: Layer
    sources: Names
    path: Path
    number: int | None
    written: tuple[str, ...] = attrs.field(init=False)
    read: tuple[str, ...] = attrs.field(init=False)
    plain: Any = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "written", flat(self.names))
        object.__setattr__(self, "read", flat(self.sources))
        object.__setattr__(self, "plain", getattr(self.layer.apply, "plain", None))

    @property
    def label(self) -> str:
        """The path as a string."""
        return "/".join(map(str, self.path or ()))


@attrs.frozen(eq=False)
class Parts:
    """The structure of a combinator, as :func:`parts` returns it.

    Parameters
    ----------
    inputs, outputs : str or tuple
        Names of the inputs and outputs, nested as their values are.
    nodes : tuple of Node
        The children, each after the children that it reads.
    optional : int
        Number of optional inputs, counted from the last.
    trained : bool
        Whether the parameters of the children get gradients and new statistics.
    name : str
        The name of the combinator, for errors.
    around : callable, optional
        Applied to the layer that connects the parts, if the children are replaced.
    """

    inputs: Names
    nodes: tuple[Node, ...]
    outputs: Names
    optional: int = 0
    trained: bool = True
    name: str = ""
    around: Callable[[Layer], Layer] | None = None

    def given(self, count: int | None) -> "Parts | None":
        """Return the declaration for a number of inputs, or `None` if the number does not fit.

        A count of `None` means one input without a tuple. The result has no optional inputs and
        no starred name.
        """
        inputs = self.inputs
        if isinstance(inputs, str):
            return self
        starred = _starred(inputs)
        if count == len(inputs) and not starred:
            return self
        number = 1 if count is None else count
        if number < self._least or (number > len(inputs) and not starred):
            return None
        if count is None and not (self.optional or starred):
            return None
        rest: tuple[str, ...] = ()
        if starred:
            rest = tuple(f"{inputs[-1]}{i}" for i in range(len(inputs), number + 1))
            inputs = (*inputs[:-1], *rest)
        present = inputs[:number]
        known = {*flat(present), *(name for node in self.nodes for name in node.written)}
        nodes = tuple(
            attrs.evolve(node, sources=_present(node.sources, known, rest)) for node in self.nodes
        )
        names = present[0] if count is None else present
        return attrs.evolve(self, inputs=names, nodes=nodes, optional=0)

    def of(self, x: Any) -> tuple["Parts", dict[str, Any]]:
        """Return the declaration for the inputs `x`, and these inputs by name."""
        fitting = self.given(len(x) if isinstance(x, tuple | list) else None)
        if fitting is None:
            raise self.refusal(x)
        return fitting, bound(self.name, fitting.inputs, x)

    def of_shape(self, shape: Shape) -> tuple["Parts", dict[str, Any]]:
        """Return the declaration for the shape of an example, and the shapes by name."""
        fitting = self.given(len(shape) if is_several(shape) else None)
        if fitting is None:
            raise ValueError(
                f"{self.name or 'parts'}: expected {self._accepted()}, got the shape {shape}"
            )
        return fitting, bound(self.name, fitting.inputs, shape)

    def reached(self) -> set[str]:
        """Return the names of the values that the outputs depend on."""
        names = set(flat(self.outputs))
        for node in reversed(self.nodes):
            if not names.isdisjoint(node.written):
                names.update(node.read)
        return names

    def last_reads(self) -> list[list[str]]:
        """Return for each node the names of values that no later node and no output reads."""
        later, ended = set(flat(self.outputs)), []
        for node in reversed(self.nodes):
            ended.append([name for name in (*node.read, *node.written) if name not in later])
            later.update(node.read)
        return ended[::-1]

    def refusal(self, x: Any) -> ValueError:
        """Return the error of a wrong number of inputs."""
        given = (x,) if self.optional and not isinstance(x, tuple | list) else x
        return ValueError(
            f"{self.name or 'parts'}: expected {self._accepted()}, got {describe(given)}"
        )

    @property
    def _least(self) -> int:
        """The smallest number of inputs."""
        return max(1, len(self.inputs) - self.optional - _starred(self.inputs))

    def _accepted(self) -> str:
        """Return a description of the accepted inputs, for errors."""
        inputs = self.inputs
        if not self.optional:
            return f"a tuple of {len(inputs)} for {', '.join(map(_written, inputs))}"
        ways = [_written(inputs[:i]) for i in range(self._least, len(inputs) + 1)]
        return " or ".join([_written(inputs[0]), *ways[1:]] if self._least == 1 else ways)


def bound(who: str, names: Names, values: Any) -> dict[str, Any]:
    """Return values by name; the value of a nested tuple of names may be `None`."""
    if isinstance(names, str):
        return {names: values}
    if not isinstance(values, tuple | list) or len(values) != len(names):
        raise ValueError(
            f"{who}: expected a tuple of {len(names)} for {', '.join(map(_written, names))}, got "
            f"{describe(values)}"
        )
    result: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(name, str):
            result[name] = value
        elif value is not None:
            result |= bound(who, name, value)
    return result


def found(values: dict[str, Any], names: Names) -> Any:
    """Return the values of names, with `None` for a missing one."""
    if names is None or isinstance(names, str):
        return values.get(names)  # type: ignore[arg-type]
    return tuple(
        [found(values, name) if type(name) is tuple else values.get(name) for name in names]
    )


def at(params: Params, path: Path) -> Any:
    """Return the parameters at a path."""
    if path is None:
        return ()
    for key in path:
        params = params[key]
    return params


def flat(names: Names) -> tuple[str, ...]:
    """Return all names in nested tuples of names; a missing input has none."""
    if isinstance(names, tuple | list):
        return tuple([name for each in names for name in flat(each)])
    return () if names is None else (names,)


def nested(names: Names) -> Names:
    """Return lists of names as tuples."""
    return tuple(map(nested, names)) if isinstance(names, list | tuple) else names


def _starred(inputs: Names) -> bool:
    last = inputs[-1] if inputs else None
    return isinstance(last, str) and last.startswith("*")


def _present(sources: Names, known: set[str], rest: tuple[str, ...]) -> Names:
    """Return the sources without missing ones at the end; a single source has no tuple."""
    if not isinstance(sources, tuple):
        return sources if sources in known else None
    kept: list[Names] = []
    for source in sources:
        if isinstance(source, str) and source.startswith("*"):
            kept += rest
        else:
            kept.append(source)
    while kept and isinstance(kept[-1], str) and kept[-1] not in known:
        del kept[-1]
    kept = [_present(each, known, rest) for each in kept]
    return kept[0] if len(kept) == 1 < len(sources) else tuple(kept)


def _written(names: Names) -> str:
    if isinstance(names, tuple):
        return f"({', '.join(map(_written, names))})"
    return str(names)
