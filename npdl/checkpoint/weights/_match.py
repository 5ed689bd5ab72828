"""Which module of a file belongs to which layer of a model, by names, shapes and order.

A module is whatever has a common beginning of its names: ``encoder.0.weight`` and
``encoder.0.bias`` are the module ``encoder.0``, and part of the module ``encoder``. It fits a layer
whose arrays have the same names behind that, and the same shapes.
"""

import re
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl.checkpoint._files.limits import CheckpointError, Kind
from npdl.functional._layer import Params
from npdl.tree import Array

__all__ = ["Modules", "Pair", "Unit"]


@attrs.frozen(eq=False)
class Unit:
    """A layer with parameters, and what these are called elsewhere."""

    path: str
    label: str
    places: dict[str, Array]  # for each array the positions of its numbers in the parameters
    spellings: list[dict[str, str]]  # names to look for, and the names in `places` they stand for
    may_lack: set[str]  # names in `places` of which all may be missing

    @property
    def alike(self) -> Any:
        """What is equal for layers that only the order tells apart."""
        return frozenset((name, array.shape) for name, array in self.places.items())


@attrs.frozen(eq=False)
class Pair:
    """A layer, and the module that it takes its numbers from."""

    unit: Unit
    prefix: str
    module: dict[str, str]  # the names inside the module, and the whole names
    spelling: dict[str, str]

    def missing(self) -> list[str]:
        """Return the names that the module would need as well."""
        missing = [name for name in self.spelling if name not in self.module]
        lacked = {self.spelling[name] for name in missing}
        return [] if lacked == self.unit.may_lack else missing

    def shared(self) -> list[tuple[str, Array]]:
        """Return the names of the file that the layer takes, and the positions of the numbers."""
        return [
            (name, self.unit.places[self.spelling[local]])
            for local, name in self.module.items()
            if local in self.spelling
        ]


# All beginnings of a name are looked at, so names that are endless would take any memory.
_LONGEST, _DEEPEST = 500, 32


class Modules:
    """The modules of a file.

    Parameters
    ----------
    title : str
        What to call the file in errors.
    kinds : dict
        The type and the shape of each of its arrays, by name.
    canonical : callable
        A name in the form that the spellings are of, or `None` for what is not needed.
    separator : str
        What stands between the parts of a name.
    """

    def __init__(
        self,
        title: str,
        kinds: dict[str, Kind],
        canonical: Callable[[str], str | None],
        separator: str,
    ) -> None:
        self.title, self.kinds, self.separator = title, kinds, separator
        self.names: dict[str, str] = {}
        for name in kinds:
            if len(name) > _LONGEST or name.count(separator) >= _DEEPEST:
                raise CheckpointError(
                    f"{title} has the name {name!r:.80}, of {len(name)} characters and "
                    f"{name.count(separator) + 1} parts; no module is nested so deep"
                )
            short = canonical(name)
            if short is not None:
                self.names[name if short in self.names else short] = name
        self.by_prefix: dict[str, dict[str, str]] = {}
        for short, name in self.names.items():
            parts = short.split(separator)
            for i in range(len(parts)):
                prefix, local = separator.join(parts[:i]), separator.join(parts[i:])
                self.by_prefix.setdefault(prefix, {})[local] = name
        # Sorted names, as in a file of safetensors, have lost the order of the modules.
        by_type: dict[str, list[str]] = {}
        for name in self.names.values():
            by_type.setdefault(kinds[name][0], []).append(name)
        self.is_sorted = all(names == sorted(names) for names in by_type.values())

    def pairs(self, units: list[Unit], given: dict[str, str], like: Params) -> list[Pair]:
        """Return the module of each layer.

        Raises
        ------
        CheckpointError
            If the file does not fit the model, or more than one way is as good.
        ValueError
            If what is given names what is not there.
        """
        self._check_given(given)
        found = [
            self._nearest(unit, [prefix], where=prefix)
            for unit in units
            if (prefix := given.get(unit.path)) is not None
        ]
        free = [unit for unit in units if unit.path not in given]
        left, unclear = self._match(free, found)
        # Something is wrong with these; the order tells best which of the modules is meant.
        for unit in left:
            prefixes = self._free(found)
            if not self.is_sorted:
                prefixes = [p for p in prefixes if self._nearest(unit, [p]).module][:1]
            found.append(self._nearest(unit, prefixes))
        self._check(found, like)
        if left:
            unclear.append((left, [pair.prefix for pair in found[-len(left) :]]))
        if unclear:
            raise CheckpointError(self._unclear(*unclear[0]))
        return found

    def _match(
        self, units: list[Unit], found: list[Pair]
    ) -> tuple[list[Unit], list[tuple[list[Unit], list[str]]]]:
        """Pair all layers that are alike with as many modules; return the others, and doubts."""
        groups: dict[Any, list[Unit]] = {}
        for unit in units:
            groups.setdefault(unit.alike, []).append(unit)
        left, unclear = set(units), []
        # A block comes before the layers that its parts could be taken for.
        for group in sorted(groups.values(), key=lambda group: -len(group[0].places)):
            prefixes = [prefix for prefix in self._free(found) if self._fits(group[0], prefix)]
            if len(prefixes) > 1 and self.is_sorted:
                prefixes.sort(key=_sort_key)
                if not all(map(_differ_in_numbers, prefixes, prefixes[1:])):
                    unclear.append((group, prefixes))
            if len(prefixes) == len(group):
                pairs = zip(group, prefixes, strict=True)
                found += [self._nearest(unit, [prefix]) for unit, prefix in pairs]
                left -= set(group)
        return [unit for unit in units if unit in left], unclear

    def _free(self, found: list[Pair]) -> list[str]:
        """Return the modules of which nothing is taken."""
        taken = {name for pair in found for name in pair.module.values()}
        return [p for p, module in self.by_prefix.items() if taken.isdisjoint(module.values())]

    def _nearest(self, unit: Unit, prefixes: list[str], where: str = "") -> Pair:
        """Return the first of the pairs with the most names in common, and the fewest beside.

        Without any, names are missing at `where`.
        """
        best, most = Pair(unit, where, {}, unit.spellings[0]), (0, 0)
        for prefix in prefixes:
            module = self.by_prefix[prefix]
            for spelling in unit.spellings:
                common = len(module.keys() & spelling.keys())
                score = (common, common - len(module))
                if common and (score > most or not best.module):
                    best, most = Pair(unit, prefix, module, spelling), score
        return best

    def _fits(self, unit: Unit, prefix: str) -> bool:
        pair = self._nearest(unit, [prefix])
        shared = pair.shared()
        return (
            bool(shared)
            and len(shared) == len(pair.module)
            and not pair.missing()
            and all(self.kinds[name][1] == places.shape for name, places in shared)
        )

    def _check(self, pairs: list[Pair], like: Params) -> None:
        """Raise unless the pairs take all that is in the file, and nothing else."""
        ours = list(tree.items(like))
        dtype = np.result_type(np.float16, *(leaf for _, leaf in ours))
        ends = np.cumsum([np.size(leaf) for _, leaf in ours])

        def of(pair: Pair, places: Array) -> str:
            """Name the parameters that these positions are in."""
            indices = np.unique(np.searchsorted(ends, places, side="right"))
            return f"{', '.join(ours[i][0] for i in indices)} of {pair.unit.label}"

        missing, others = [], []
        used: set[str] = set()
        for pair in pairs:
            for local in pair.missing():
                places = pair.unit.places[pair.spelling[local]]
                name = f"{pair.prefix}{self.separator}{local}" if pair.prefix else local
                missing.append(f"missing: {name}, {list(places.shape)}, for {of(pair, places)}")
            for name, places in pair.shared():
                used.add(name)
                kind, shape = self.kinds[name]
                if shape != places.shape:
                    others.append(
                        f"of another shape: {name} is {_list(shape)}, but {of(pair, places)} needs "
                        f"{_list(places.shape)}"
                    )
                elif not _is_exact(kind, dtype):
                    others.append(
                        f"of another type: {name} is {kind}, but {of(pair, places)} is {dtype}"
                    )
        unexpected = [
            f"unexpected: {name}, {self.kinds[name][0]}{_list(self.kinds[name][1])}"
            for name in self.names.values()
            if name not in used
        ]
        if lines := missing + unexpected + others:
            raise CheckpointError(
                "\n  ".join([f"{self.title} does not fit the model; nothing was loaded:", *lines])
                + "\nThe model needs the same layers, of the same sizes; where their order is "
                "another, say which is which with names={path in the model: name of the module}. "
                "Other types of numbers need another `like`: npdl.tree.astype(like, np.float64)."
            )

    def _unclear(self, units: list[Unit], prefixes: list[str]) -> str:
        example = dict(zip([unit.path for unit in units], prefixes, strict=False))
        return (
            f"{self.title} has modules that are alike, {', '.join(prefixes)}, for "
            f"{', '.join(f'{unit.path} = {unit.label}' for unit in units)}, and its names, which "
            f"may be sorted, do not tell their order; nothing was loaded. Say which is which, as "
            f"in names={example}"
        )

    def _check_given(self, given: dict[str, str]) -> None:
        for prefix in given.values():
            if prefix not in self.by_prefix:
                raise ValueError(
                    f"names: {self.title} has no module {prefix!r}; it has "
                    f"{', '.join(map(repr, self.by_prefix))}"
                )


def _list(shape: tuple[int, ...] | None) -> str:
    return str(list(shape or ()))


def _is_exact(kind: str, dtype: np.dtype[Any]) -> bool:
    """Whether floats of that type keep their values in the other one."""
    try:
        found = np.dtype(kind)
    except TypeError:  # one that NumPy does not have, such as BF16
        return False
    return found.kind == "f" and np.can_cast(found, dtype, "safe")


def _words(prefix: str) -> list[list[str | int]]:
    """Return the words and numbers in each part of a name."""
    return [
        [int(token) if token.isdecimal() else token for token in tokens if token]
        for tokens in (re.split(r"_*(\d+)_*", part) for part in re.split(r"[./]", prefix))
    ]


def _sort_key(prefix: str) -> list[list[tuple[bool, str | int]]]:
    return [[(isinstance(word, str), word) for word in part] for part in _words(prefix)]


def _differ_in_numbers(first: str, second: str) -> bool:
    """Whether two names are equal up to a number, as `fc2` and `fc10`, or `fc` and `fc_1`."""
    for part, other in zip(_words(first), _words(second), strict=False):
        if part != other:
            for word, other_word in zip(part, other, strict=False):
                if word != other_word:
                    return isinstance(word, int) and isinstance(other_word, int)
            longer = max(part, other, key=len)
            return isinstance(longer[min(len(part), len(other))], int)
    return False
