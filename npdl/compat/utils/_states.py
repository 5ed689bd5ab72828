"""States of NumPy's generators as JSON, checked field by field before they are set.

A bit generator does not check its state: a Mersenne twister with a position outside its key reads
foreign memory at the next draw. So a state from a file is checked against a table of NumPy's five
bit generators; other names are refused.
"""

import json
import math
from typing import Any, TypeAlias

import numpy as np

__all__ = ["check_bit_generator", "read_generator", "set_global", "write_generator"]

# The exclusive upper bound of a non-negative int, or the number of such ints and their bound.
_Field: TypeAlias = int | tuple[int, int]

_U32, _U64, _U128 = 1 << 32, 1 << 64, 1 << 128
# The unused half of a 64-bit draw after a 32-bit draw.
_HALF: dict[str, _Field] = {"has_uint32": 2, "uinteger": _U32}
# For each bit generator: the fields inside "state", and the other fields.
_BITS: dict[str, tuple[dict[str, _Field], dict[str, _Field]]] = {
    "MT19937": ({"key": (624, _U32), "pos": 625}, {}),
    "PCG64": ({"state": _U128, "inc": _U128}, _HALF),
    "PCG64DXSM": ({"state": _U128, "inc": _U128}, _HALF),
    "Philox": (
        {"counter": (4, _U64), "key": (2, _U64)},
        {"buffer": (4, _U64), "buffer_pos": 5, **_HALF},
    ),
    "SFC64": ({"state": (4, _U64)}, _HALF),
}
_KINDS = ("Generator", "RandomState", "numpy.random")


def check_bit_generator(rng: Any) -> None:
    """Raise unless the state of a generator's bit generator can be saved.

    Raises
    ------
    TypeError
        If the bit generator is not one of NumPy's.
    """
    bits = _bits(rng)
    if type(bits) is not _classes().get(type(bits).__name__):
        raise TypeError(
            f"expected a generator with one of NumPy's bit generators {', '.join(_BITS)}, such as "
            f"numpy.random.default_rng(0), got the bit generator {type(bits).__name__}, whose "
            f"state cannot be saved"
        )


def write_generator(rng: Any) -> str:
    """Return the kind and the state of a generator as JSON.

    Raises
    ------
    TypeError
        If its bit generator is not one of NumPy's.
    """
    check_bit_generator(rng)
    if isinstance(rng, np.random.Generator):
        kind, state = "Generator", rng.bit_generator.state
    else:
        kind = "numpy.random" if rng is np.random else "RandomState"
        state = rng.get_state(legacy=False)
    return json.dumps({"generator": kind, "state": state}, default=np.ndarray.tolist)


def read_generator(text: Any) -> tuple[Any, dict[str, Any]]:
    """Return the generator for a JSON string, and its state.

    Parameters
    ----------
    text : str
        The result of :func:`write_generator`.

    Returns
    -------
    rng : Generator, RandomState or the module numpy.random
        A new generator with this state; or `numpy.random`, whose state is not changed.
    state : dict
        The state, for :func:`set_global` if `rng` is `numpy.random`.

    Raises
    ------
    ValueError
        If the string is not a state of a generator of NumPy.
    """
    try:
        kind, state = _checked(json.loads(text))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"expected the state of a NumPy generator, as get_state() returns it, got "
            f"{text!r:.80} ({type(error).__name__}: {error})"
        ) from error
    if kind == "numpy.random":
        return np.random, state
    bits = _classes()[state["bit_generator"]]()
    if kind == "Generator":
        bits.state = state
        return np.random.Generator(bits), state
    legacy = np.random.RandomState(bits)
    legacy.set_state(state)
    return legacy, state


def set_global(state: dict[str, Any]) -> None:
    """Set the state of NumPy's global generator, and its bit generator if that differs."""
    numpy_random: Any = np.random
    if type(_bits(numpy_random)).__name__ != state["bit_generator"]:
        numpy_random.set_bit_generator(_classes()[state["bit_generator"]]())
    numpy_random.set_state(state)


def _classes() -> dict[str, Any]:
    """Return the bit generator classes; not at import, since numpy.random is slow to import."""
    return {name: getattr(np.random, name) for name in _BITS}


def _bits(rng: Any) -> Any:
    if isinstance(rng, np.random.Generator):
        return rng.bit_generator
    return np.random.get_bit_generator() if rng is np.random else rng._bit_generator


def _checked(found: Any) -> tuple[str, dict[str, Any]]:
    """Return the kind and the state, or raise unless each field is valid for the bit generator."""
    _check_keys("JSON", found, {"generator", "state"})
    kind, state = found["generator"], found["state"]
    if kind not in _KINDS:
        raise ValueError(f"expected a generator of {', '.join(_KINDS)}, got {kind!r}")
    name = state["bit_generator"]
    if name not in _BITS:
        raise ValueError(f"expected a bit generator of {', '.join(_BITS)}, got {name!r}")
    inner, outer = _BITS[name]
    legacy = {"has_gauss", "gauss"} if kind != "Generator" else set()
    _check_keys("state", state, {"bit_generator", "state", *outer, *legacy})
    _check_keys("inner state", state["state"], set(inner))
    values = {key: _value(key, state[key], field) for key, field in outer.items()}
    values["state"] = {key: _value(key, state["state"][key], f) for key, f in inner.items()}
    if values["state"].get("inc", 1) % 2 == 0:
        raise ValueError("inc must be odd")
    if name == "MT19937" and not values["state"]["key"].any():
        raise ValueError("all elements of key are 0, so all draws would be 0")
    if legacy:
        values["has_gauss"] = _value("has_gauss", state["has_gauss"], 2)
        values["gauss"] = state["gauss"]
        if type(state["gauss"]) is not float or not math.isfinite(state["gauss"]):
            raise ValueError(f"gauss must be a finite float, got {state['gauss']!r}")
    return kind, {"bit_generator": name, **values}


def _check_keys(what: str, found: Any, keys: set[str]) -> None:
    if not isinstance(found, dict) or found.keys() != keys:
        shown = sorted(found) if isinstance(found, dict) else found
        raise ValueError(f"the {what} must have the keys {sorted(keys)}, got {shown!r:.80}")


def _value(name: str, value: Any, field: _Field) -> Any:
    """Return the value of a field, as an array if it has several numbers."""
    count, bound = field if isinstance(field, tuple) else (1, field)
    values = value if isinstance(field, tuple) else [value]
    if (
        type(values) is not list
        or len(values) != count
        or any(type(each) is not int or not 0 <= each < bound for each in values)
    ):
        raise ValueError(f"{name} must be {count} int{'s' * (count > 1)} from 0 to {bound - 1}")
    return np.array(values, np.uint32 if bound == _U32 else np.uint64) if count > 1 else value
