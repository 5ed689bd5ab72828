"""Matches the modules of a file to the layers of a model, by names, shapes and order.

A module is a set of arrays whose names have a common prefix. For example, ``encoder.0.weight`` and
``encoder.0.bias`` form the module ``encoder.0``, and belong to the module ``encoder``. A module
fits a layer if the rest of their names and the shapes are equal.
"""

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np

from npdl import tree
from npdl.checkpoint._files.limits import CheckpointError, Kind
from npdl.checkpoint.weights._leaves import is_within
from npdl.checkpoint.weights._units import Single, Unit, listed
from npdl.functional._layer import Params
from npdl.tree import Array

__all__ = ["Modules"]


@attrs.frozen(eq=False)
class _Pair:
    """A layer, and the module with its weights."""

    unit: Unit
    prefix: str
    module: dict[str, str]  # from the names inside the module to the full names
    spelling: dict[str, str]

    def missing(self) -> list[str]:
        """Return the names that the module lacks."""
        missing = [name for name in self.spelling if name not in self.module]
        lacked = {self.spelling[name] for name in missing}
        return [] if lacked == self.unit.may_lack else missing

    def shared(self) -> list[tuple[str, Array]]:
        """Return the file's names of the layer's arrays, and the positions of their numbers."""
        return [
            (name, self.unit.positions[self.spelling[local]])
            for local, name in self.module.items()
            if local in self.spelling
        ]


# Every prefix of a name is stored, so a limit on names limits the memory.
_LONGEST, _DEEPEST = 500, 32
# For each prefix, from the rests of the names to the full names.
_Table: TypeAlias = dict[str, dict[str, str]]


class Modules:
    """The modules of a file.

    Parameters
    ----------
    title : str
        The name of the file in errors.
    kinds : dict
        The type and the shape of each of its arrays, by name.
    canonical : callable
        Returns a name in the form of the spellings, or `None` for an array that is not needed.
    separator : str
        The separator of the parts of a name.
    singles : collection of Single
        Arrays of the model with the names of arrays of the file. These belong to no module.

    Raises
    ------
    CheckpointError
        If the file has names that are too long.
    ValueError
        If the file has no array of a name.
    """

    def __init__(
        self,
        title: str,
        kinds: dict[str, Kind],
        canonical: Callable[[str], str | None],
        separator: str,
        singles: Collection[Single],
    ) -> None:
        self.title, self.kinds, self.separator = title, kinds, separator
        self.singles = singles
        apart = dict.fromkeys(name for single in singles for name in single.names)
        for name in apart:
            if name not in kinds:
                raise ValueError(f"names: {title} has no array {name!r}; it has {listed(kinds)}")
        every: dict[str, str] = {}
        for name in kinds:
            if len(name) > _LONGEST or name.count(separator) >= _DEEPEST:
                raise CheckpointError(
                    f"{title} has the name {name!r:.80}, of {len(name)} characters and "
                    f"{name.count(separator) + 1} parts; the limits are {_LONGEST} and "
                    f"{_DEEPEST}"
                )
            short = canonical(name)
            if short is not None:
                every[name if short in every else short] = name
        self.names = {short: name for short, name in every.items() if name not in apart}
        self.by_prefix = _by_prefix(self.names, separator)
        # A module that `names` has may share an array with `singles`, as a tied embedding does.
        self.whole = _by_prefix(every, separator) if apart else self.by_prefix
        # Sorted names, as in a file of safetensors, do not keep the order of the modules.
        by_type: dict[str, list[str]] = {}
        for name in self.names.values():
            by_type.setdefault(kinds[name][0], []).append(name)
        self.is_sorted = all(names == sorted(names) for names in by_type.values())

    def assigned(
        self, units: list[Unit], like: Params, partial: bool = False
    ) -> list[tuple[str, Array]]:
        """Return the names of the needed arrays, each with the positions of its numbers in `like`.

        With `partial`, the file may have other arrays, too.

        Raises
        ------
        CheckpointError
            If the file does not fit the model, or several assignments are possible.
        ValueError
            If a layer has the name of a module that is not in the file.
        """
        units = [unit for unit in units if unit.positions]
        self.regions = {unit.region for unit in units if unit.region is not None}
        for prefix in self.regions | {unit.module for unit in units if unit.module is not None}:
            if prefix not in self.whole:
                raise ValueError(
                    f"names: {self.title} has no module {prefix!r}; it has {listed(self.whole)}"
                )
        found = [pair for single in self.singles for pair in self._named(single)]
        found += [
            self._nearest(unit, [unit.module], unit.module, [self.by_prefix, self.whole])
            for unit in units
            if unit.module is not None
        ]
        left, ambiguous = self._match([unit for unit in units if unit.module is None], found)
        # These layers do not fit. The error names the most likely module, by the order.
        for unit in left:
            prefixes = self._free(found, unit.region)
            if not self.is_sorted:
                prefixes = [p for p in prefixes if self._nearest(unit, [p]).module][:1]
            found.append(self._nearest(unit, prefixes))
        self._check(found, like, partial)
        if left:
            ambiguous.append((left, [pair.prefix for pair in found[-len(left) :]]))
        if ambiguous:
            raise CheckpointError(self._ambiguity(*ambiguous[0]))
        return [shared for pair in found for shared in pair.shared()]

    def _named(self, single: Single) -> list[_Pair]:
        """Return the pairs of an array; several arrays of a file are its rows."""
        rows = [single.positions]
        if len(single.names) > 1:
            shapes = [self.kinds[name][1] or () for name in single.names]
            ends = np.cumsum([shape[0] if shape else 0 for shape in shapes])
            if ends[-1] != len(rows[0]) or {shape[1:] for shape in shapes} != {rows[0].shape[1:]}:
                raise CheckpointError(
                    f"{self.title} does not fit the model; nothing was loaded: the arrays "
                    f"{', '.join(single.names)} are {', '.join(map(_list, shapes))}, but "
                    f"{single.path} of {single.unit.label} needs {_list(rows[0].shape)}, joined "
                    f"along the first axis"
                )
            rows = np.split(rows[0], ends[:-1])
        return [
            _Pair(
                attrs.evolve(single.unit, positions={name: part}, may_lack=set()),
                prefix="",
                module={name: name},
                spelling={name: name},
            )
            for name, part in zip(single.names, rows, strict=True)
        ]

    def _match(
        self, units: list[Unit], found: list[_Pair]
    ) -> tuple[list[Unit], list[tuple[list[Unit], list[str]]]]:
        """Pair each group of layers with equally many modules; return the rest, and ambiguities."""
        groups: dict[Any, list[Unit]] = {}
        for unit in units:
            groups.setdefault(unit.group_key, []).append(unit)
        left, ambiguous = set(units), []
        # A block is matched first: its children could also match single layers.
        for group in sorted(groups.values(), key=lambda group: -len(group[0].positions)):
            prefixes = self._free(found, group[0].region)
            prefixes = [prefix for prefix in prefixes if self._fits(group[0], prefix)]
            if len(prefixes) > 1 and self.is_sorted:
                prefixes.sort(key=_sort_key)
                if not all(map(_differ_in_numbers, prefixes, prefixes[1:])):
                    ambiguous.append((group, prefixes))
            if len(prefixes) == len(group):
                pairs = zip(group, prefixes, strict=True)
                found += [self._nearest(unit, [prefix]) for unit, prefix in pairs]
                left -= set(group)
        return [unit for unit in units if unit in left], ambiguous

    def _free(self, found: list[_Pair], region: str | None) -> list[str]:
        """Return the modules of a region without a matched array."""
        taken = {name for pair in found for name in pair.module.values()}
        return [
            prefix
            for prefix, module in self.by_prefix.items()
            if self._region(prefix) == region and taken.isdisjoint(module.values())
        ]

    def _region(self, prefix: str) -> str | None:
        """Return the innermost of the given modules around a module, or `None`."""
        around = [each for each in self.regions if is_within(prefix, each, self.separator)]
        return max(around, key=len, default=None)

    def _nearest(
        self,
        unit: Unit,
        prefixes: list[str],
        where: str = "",
        tables: Sequence[_Table] = (),
    ) -> _Pair:
        """Return the pair with the most common names; ties go to fewer extra names, then order.

        If no module has a common name, the pair has an empty module at `where`.
        """
        best, most = _Pair(unit, where, {}, unit.spellings[0]), (0, 0)
        for prefix, table in itertools.product(prefixes, tables or [self.by_prefix]):
            module = table.get(prefix, {})
            for spelling in unit.spellings:
                common = len(module.keys() & spelling.keys())
                score = (common, common - len(module))
                if common and (score > most or not best.module):
                    best, most = _Pair(unit, prefix, module, spelling), score
        return best

    def _fits(self, unit: Unit, prefix: str) -> bool:
        pair = self._nearest(unit, [prefix])
        shared = pair.shared()
        return (
            bool(shared)
            and len(shared) == len(pair.module)
            and not pair.missing()
            and all(self.kinds[name][1] == positions.shape for name, positions in shared)
        )

    def _check(self, pairs: list[_Pair], like: Params, partial: bool) -> None:
        """Raise unless the arrays of the pairs are the arrays of the file; `partial`: some of."""
        ours = list(tree.items(like))
        dtype = np.result_type(np.float16, *(leaf for _, leaf in ours))
        ends = np.cumsum([np.size(leaf) for _, leaf in ours])

        def of(pair: _Pair, positions: Array) -> str:
            """Return the names of the parameters at these positions."""
            indices = np.unique(np.searchsorted(ends, positions, side="right"))
            return f"{', '.join(ours[i][0] for i in indices)} of {pair.unit.label}"

        missing, others = [], []
        used: set[str] = set()
        for pair in pairs:
            for local in pair.missing():
                positions = pair.unit.positions[pair.spelling[local]]
                name = f"{pair.prefix}{self.separator}{local}" if pair.prefix else local
                missing.append(
                    f"missing: {name}, {list(positions.shape)}, for {of(pair, positions)}"
                )
            for name, positions in pair.shared():
                used.add(name)
                kind, shape = self.kinds[name]
                if shape != positions.shape:
                    others.append(
                        f"of another shape: {name} is {_list(shape)}, but {of(pair, positions)} "
                        f"needs {_list(positions.shape)}"
                    )
                elif not _is_exact(kind, dtype):
                    others.append(
                        f"of another type: {name} is {kind}, but {of(pair, positions)} is {dtype}"
                    )
        unexpected = [
            f"unexpected: {name}, {self.kinds[name][0]}{_list(self.kinds[name][1])}"
            for name in self.names.values()
            if not partial and name not in used
        ]
        if lines := missing + unexpected + others:
            raise CheckpointError(
                "\n  ".join([f"{self.title} does not fit the model; nothing was loaded:", *lines])
                + "\nThe model needs the same layers, of the same sizes; if their order differs, "
                "pass names={path in the model: name of the module or the array}. "
                "Floats of 16, 32 and 64 bits are read; a type wider than the model needs another "
                "`like`: npdl.tree.astype(like, np.float64)."
            )

    def _ambiguity(self, units: list[Unit], prefixes: list[str]) -> str:
        example = dict(zip([unit.path for unit in units], prefixes, strict=False))
        return (
            f"{self.title} has modules with equal names and shapes, {', '.join(prefixes)}, for "
            f"{', '.join(f'{unit.path} = {unit.label}' for unit in units)}, and its names, which "
            f"may be sorted, do not determine their order; nothing was loaded. Assign the modules, "
            f"as in names={example}"
        )


def _by_prefix(names: dict[str, str], separator: str) -> _Table:
    """Return all modules of an archive with these names."""
    table: _Table = {}
    for short, name in names.items():
        parts = short.split(separator)
        for i in range(len(parts)):
            prefix, local = separator.join(parts[:i]), separator.join(parts[i:])
            table.setdefault(prefix, {})[local] = name
    return table


def _list(shape: tuple[int, ...] | None) -> str:
    return str(list(shape or ()))


def _is_exact(kind: str, dtype: np.dtype[Any]) -> bool:
    """Whether floats of the type `kind` keep their values as `dtype`."""
    try:
        found = np.dtype("float32" if kind == "bfloat16" else kind)
    except TypeError:  # a type that NumPy does not have, such as F8_E4M3
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
    """Whether two names first differ in a number, as `fc2` and `fc10`, or `fc` and `fc_1`."""
    for part, other in zip(_words(first), _words(second), strict=False):
        if part != other:
            for word, other_word in zip(part, other, strict=False):
                if word != other_word:
                    return isinstance(word, int) and isinstance(other_word, int)
            longer = max(part, other, key=len)
            return isinstance(longer[min(len(part), len(other))], int)
    return False
