"""Trees of arrays: dict, tuple, list, NamedTuple and attrs records, nested; the rest are leaves.

Parameters, gradients, optimizer states and caches are trees. `None` is a tree without leaves. It
replaces a missing leaf or a missing subtree, such as the gradient of a frozen layer. Every function
passes it through.

>>> import numpy as np
>>> from npdl import tree
>>> params = {"weight": np.ones((2, 3)), "bias": np.zeros(3)}
>>> tree.map(np.shape, params)
{'weight': (2, 3), 'bias': (3,)}
>>> tree.paths({"a": (1, None, {"b": 2})})
['a/0', 'a/2/b']

The order of the leaves is the order of positions, of fields, and of the sorted keys of a dict, as
in `jax.tree`. Keys that cannot be compared, such as 1 and "a", are sorted by their strings.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs
import numpy as np

from npdl._constructor import Recorded

__all__ = [
    "Tree",
    "add",
    "aligned",
    "all_close",
    "astype",
    "count",
    "flatten",
    "items",
    "leaves",
    "map",
    "paths",
    "ravel",
    "unflatten",
]

Tree: TypeAlias = Any
Array: TypeAlias = np.ndarray[Any, Any]


class _Leaf:
    """Placeholder for a leaf in a structure."""

    def __repr__(self) -> str:
        return "*"


LEAF = _Leaf()


def map(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply `function` to the leaves of `tree` and the leaves of `rest` at the same paths.

    Parameters
    ----------
    function : callable
        A function of one leaf per tree.
    tree, *rest : tree
        Trees of equal structure. If one of them has `None`, the result has `None` there.

    Returns
    -------
    tree
        A tree with the structure of `tree`.

    Raises
    ------
    ValueError
        If the trees differ, with the path, both sides and the differing keys.

    Examples
    --------
    >>> from npdl import tree
    >>> tree.map(lambda a, b: a + b, {"a": 1, "b": (2, None)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, None)}
    """
    return _map(function, (tree, *rest), ())


def leaves(tree: Tree) -> list[Any]:
    """Return the leaves in order.

    Examples
    --------
    >>> from npdl import tree
    >>> tree.leaves({"b": 1, "a": (2, None, 3)})
    [2, 3, 1]
    """
    found: list[Any] = []
    _collect(tree, found)
    return found


def items(tree: Tree) -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its path.

    Examples
    --------
    >>> from npdl import tree
    >>> list(tree.items({"b": 1, "a": (2, 3)}))
    [('a/0', 2), ('a/1', 3), ('b', 1)]
    """
    return (("/".join(path), leaf) for path, leaf in _walk(tree, ()))


def paths(tree: Tree) -> list[str]:
    """Return the paths of the leaves, such as ``"0/weight"``, in order.

    Examples
    --------
    >>> from npdl import tree
    >>> tree.paths({"a": (1, None, {"b": 2})})
    ['a/0', 'a/2/b']
    """
    return [path for path, _ in items(tree)]


def flatten(tree: Tree) -> tuple[list[Any], Tree]:
    """Return the leaves and the structure, the arguments of :func:`unflatten`.

    Examples
    --------
    >>> from npdl import tree
    >>> tree.flatten({"a": 1, "b": (2, None)})
    ([1, 2], {'a': *, 'b': (*, None)})
    """
    return leaves(tree), map(lambda leaf: LEAF, tree)


def unflatten(structure: Tree, leaves: list[Any]) -> Tree:
    """Return a tree with this structure and these leaves.

    Parameters
    ----------
    structure : tree
        A structure from :func:`flatten`, or any tree with this structure.
    leaves : list
        The leaves, in order.

    Raises
    ------
    ValueError
        If the number of leaves is wrong.

    Examples
    --------
    >>> from npdl import tree
    >>> tree.unflatten({"b": 0, "a": (0, 0)}, [1, 2, 3])
    {'b': 3, 'a': (1, 2)}
    """
    remaining = iter(leaves)
    try:
        tree = _fill(structure, remaining)
    except StopIteration:
        tree = None
    if len(leaves) != (expected := len(_leaves(structure))):
        raise ValueError(f"the structure has {expected} leaves, got {len(leaves)}")
    return tree


def aligned(tree: Tree, like: Tree) -> list[Any]:
    """Return one leaf of `tree`, or `None`, for each leaf of `like`.

    This is the flat form of a tree of gradients, in which `None` may replace a whole subtree.

    Raises
    ------
    ValueError
        If the trees differ otherwise.

    Examples
    --------
    >>> from npdl import tree
    >>> tree.aligned({"a": None, "b": 1}, like={"a": (5, 6), "b": 7})
    [None, None, 1]
    """
    found: list[Any] = []
    _align(tree, like, (), found)
    return found


def ravel(tree: Tree) -> tuple[np.ndarray, Callable[[np.ndarray], Tree]]:
    """Return all numbers of the tree in one vector, and the inverse function.

    Returns
    -------
    vector : array of shape (count,)
        A new array.
    unravel : callable
        Maps a vector of this size to a tree whose leaves are views into it.

    Raises
    ------
    TypeError
        If the leaves have different data types.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import tree
    >>> vector, unravel = tree.ravel({"a": np.arange(2.0), "b": np.ones((1, 2))})
    >>> vector
    array([0., 1., 1., 1.])
    >>> unravel(2 * vector)
    {'a': array([0., 2.]), 'b': array([[2., 2.]])}
    """
    arrays = [np.asarray(leaf) for leaf in leaves(tree)]
    if len({array.dtype for array in arrays}) > 1:
        raise TypeError(
            "a tree with several data types cannot become one vector; convert it with tree.astype: "
            + ", ".join(f"{path} is {np.asarray(leaf).dtype}" for path, leaf in items(tree))
        )
    shapes = [array.shape for array in arrays]
    ends = np.cumsum([array.size for array in arrays]).tolist()
    size = ends[-1] if ends else 0

    def unravel(vector: np.ndarray) -> Tree:
        if vector.shape != (size,):
            raise ValueError(f"expected a vector of {size} numbers, got shape {vector.shape}")
        parts = zip(itertools.pairwise([0, *ends]), shapes, strict=True)
        return unflatten(tree, [vector[a:b].reshape(shape) for (a, b), shape in parts])

    if not arrays:
        return np.zeros(0, np.float32), unravel
    return np.concatenate([array.ravel() for array in arrays]), unravel


def count(tree: Tree) -> int:
    """Return the total number of elements in the leaves.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import tree
    >>> tree.count({"weight": np.ones((2, 3)), "bias": np.zeros(3)})
    9
    """
    return sum(math.prod(np.shape(leaf)) for leaf in leaves(tree))


def astype(tree: Tree, dtype: Any) -> Tree:
    """Return the tree with its floating-point arrays in another type, and other leaves unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import tree
    >>> tree.astype({"a": np.ones(1, np.float32), "n": 3}, np.float64)
    {'a': array([1.]), 'n': 3}
    """

    def cast(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray | np.generic):
            return leaf
        is_float = leaf.dtype.kind == "f" or leaf.dtype.name == "bfloat16"
        return leaf.astype(dtype) if is_float else leaf

    return map(cast, tree)


def add(a: Tree, b: Tree) -> Tree:
    """Return the sum of two trees of gradients, in which `None` counts as zero.

    Examples
    --------
    >>> from npdl import tree
    >>> tree.add({"a": 1, "b": None}, {"a": 2, "b": 3})
    {'a': 3, 'b': 3}
    """
    if a is None or b is None:
        return b if a is None else a
    children = _children(a)
    if children is None and _children(b) is None:
        return a + b
    _require_same((a, b), ())
    others = _children(b) or {}
    return _rebuild(a, {key: add(child, others[key]) for key, child in (children or {}).items()})


def all_close(a: Tree, b: Tree, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Whether the leaves of two trees of equal structure agree within the tolerance.

    ``|a - b| ≤ α + ρ |b|`` for all numbers, with α of `atol` and ρ of `rtol`.

    Raises
    ------
    ValueError
        If the structures differ, `None` included.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import tree
    >>> tree.all_close({"a": np.ones(2)}, {"a": np.ones(2) + 1e-9})
    True
    """
    _require_all_same(a, b, ())
    return all(
        np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=rtol, atol=atol)
        for x, y in zip(leaves(a), leaves(b), strict=True)
    )


_leaves = leaves


def _children(tree: Tree) -> dict[Any, Any] | None:
    """Return the children of a node by key, or `None` for a leaf."""
    kind = type(tree)
    if kind is np.ndarray:
        return None
    if kind is dict:
        return tree  # type: ignore[no-any-return]
    if isinstance(tree, tuple | list):
        names = getattr(kind, "_fields", None) or range(len(tree))
        return dict(zip(names, tree, strict=True))
    if attrs.has(kind) and not isinstance(tree, Recorded):
        return {field.name: getattr(tree, field.name) for field in _fields(kind)}
    return dict(tree) if isinstance(tree, dict) else None


def _rebuild(tree: Tree, children: dict[Any, Any]) -> Tree:
    """Return a node of the type of `tree` with these children."""
    kind = type(tree)
    if kind is dict:
        return children
    if isinstance(tree, tuple | list):
        named = hasattr(kind, "_fields")
        return kind(*children.values()) if named else kind(children.values())
    if isinstance(tree, dict):
        # A copy keeps the attributes of subclasses, such as the factory of a defaultdict.
        rebuilt = copy.copy(tree)
        rebuilt.update(children)
        return rebuilt
    return kind(**{field.alias: children[field.name] for field in _fields(kind)})


def _fields(kind: Any) -> list[Any]:
    """Return the fields of an attrs record that its call takes; others follow from them."""
    return [field for field in attrs.fields(kind) if field.init]


def _map(function: Callable[..., Any], trees: tuple[Any, ...], path: tuple[str, ...]) -> Tree:
    if any(tree is None for tree in trees):
        return None
    first = trees[0]
    children = _children(first)
    if len(trees) == 1:
        if children is None:
            return function(first)
        return _rebuild(first, {k: _map(function, (c,), path) for k, c in children.items()})
    _require_same(trees, path)
    if children is None:
        return function(*trees)
    all_children = [_children(tree) or {} for tree in trees]
    return _rebuild(
        first,
        {
            key: _map(function, tuple(c[key] for c in all_children), (*path, str(key)))
            for key in children
        },
    )


def _collect(tree: Tree, found: list[Any]) -> None:
    if tree is None:
        return
    children = _children(tree)
    if children is None:
        found.append(tree)
    else:
        for key in _ordered(tree, children):
            _collect(children[key], found)


def _walk(tree: Tree, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if tree is None:
        return
    children = _children(tree)
    if children is None:
        yield path, tree
    else:
        for key in _ordered(tree, children):
            yield from _walk(children[key], (*path, str(key)))


def _fill(structure: Tree, remaining: Iterator[Any]) -> Tree:
    if structure is None:
        return None
    children = _children(structure)
    if children is None:
        return next(remaining)
    filled = {key: _fill(children[key], remaining) for key in _ordered(structure, children)}
    return _rebuild(structure, {key: filled[key] for key in children})


def _align(tree: Tree, like: Tree, path: tuple[str, ...], found: list[Any]) -> None:
    if tree is None or like is None:
        found.extend([None] * len(leaves(like)))
        return
    _require_same((tree, like), path)
    wanted = _children(like)
    if wanted is None:
        found.append(tree)
        return
    children = _children(tree) or {}
    for key in _ordered(like, wanted):
        _align(children[key], wanted[key], (*path, str(key)), found)


def _ordered(tree: Tree, children: dict[Any, Any]) -> Any:
    return sorted_keys(children) if isinstance(tree, dict) else children


def sorted_keys(node: dict[Any, Any]) -> list[Any]:
    """Return the keys of a dict in the order of its leaves; all modules use this order."""
    try:
        return sorted(node)
    except TypeError:  # Keys of several types. 1 and "1" have one string, and different types.
        return sorted(node, key=lambda key: (str(key), type(key).__name__))


def _require_same(trees: tuple[Any, ...], path: tuple[str, ...]) -> None:
    """Raise unless the roots of all trees are nodes with the same keys, or leaves."""
    first = _children(trees[0])
    for other in trees[1:]:
        second = _children(other)
        if (first is None) == (second is None) and (
            first is None or second is None or first.keys() == second.keys()
        ):
            continue
        only = ""
        if first is not None and second is not None:
            only = _extra("first", first, second) + _extra("second", second, first)
        raise ValueError(
            f"the trees differ at {'/'.join(path) or 'the root'}: "
            f"{_summary(trees[0])} against {_summary(other)}{only}"
        )


def _extra(which: str, has: dict[Any, Any], other: dict[Any, Any]) -> str:
    keys = sorted(str(key) for key in has.keys() - other.keys())
    return f"; only the {which} has {', '.join(keys)}" if keys else ""


def _require_all_same(a: Tree, b: Tree, path: tuple[str, ...]) -> None:
    if a is None and b is None:
        return
    if a is None or b is None:
        raise ValueError(
            f"the trees differ at {'/'.join(path) or 'the root'}: {_summary(a)} against "
            f"{_summary(b)}"
        )
    _require_same((a, b), path)
    others = _children(b) or {}
    for key, child in (_children(a) or {}).items():
        _require_all_same(child, others[key], (*path, str(key)))


def _summary(tree: Tree) -> str:
    """Describe a node briefly."""
    if tree is None:
        return "None"
    children = _children(tree)
    if children is None:
        if isinstance(tree, np.ndarray):
            return f"an array {tree.dtype}{list(tree.shape)}"
        return f"a leaf of type {type(tree).__name__}"
    keys = ", ".join(str(key) for key in children)
    shown = keys if len(keys) < 80 else keys[:77] + "..."
    return f"a {type(tree).__name__} of {len(children)} ({shown})"


def copied(tree: Tree) -> Tree:
    """Return a tree of copies of the arrays; other leaves are the same."""
    return map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, tree)


def read_only(tree: Tree) -> Tree:
    """Return a tree of views of the arrays, which cannot be written; other leaves are the same."""

    def view(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            leaf = leaf.view()
            leaf.flags.writeable = False
        return leaf

    return map(view, tree)
