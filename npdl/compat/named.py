"""What the classes of the stateful API share: configurations, and names in place of instances.

An instance remembers the arguments that it was made with, and its configuration is its class and
those arguments. So a subclass in a user's script can be saved and loaded without more code, as long
as it has been imported when it is loaded.
"""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from npdl.functional.layer import describe

__all__ = ["Named", "find"]

T = TypeVar("T", bound="Named")


class Named:
    """The base of layers, activations, initializers, objectives and optimizers."""

    # The module that a root class belongs to, such as "layers".
    family: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def to_json(self) -> dict[str, Any]:
        """Return the configuration: the class and its arguments, as JSON values."""
        arguments = self._arguments()
        encoded = {name: self._encoded(name, value) for name, value in arguments.items()}
        return {"class": _name(type(self)), **encoded}

    def __repr__(self) -> str:
        shown = [f"{name}={_shown(value)}" for name, value in self._arguments().items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _arguments(self) -> dict[str, Any]:
        args, keywords = self.__dict__.get("_made_with", ((), {}))
        return _by_name(type(self), args, keywords)

    @classmethod
    def from_json(cls: type[T], config: str | Mapping[str, Any]) -> T:
        """Return a new instance from a configuration.

        Parameters
        ----------
        config : dict or str
            What :meth:`to_json` returned, or that as JSON. Without a ``"class"``, the arguments of
            the class that this is called on.

        Raises
        ------
        ValueError
            If the class is not known, or an argument is not one of its own.
        """
        values = json.loads(config) if isinstance(config, str) else config
        if not isinstance(values, Mapping):
            raise ValueError(f"{cls.__name__}.from_json: expected a configuration, got {values!r}")
        arguments = dict(values)
        made = _class_named(cls, arguments.pop("class", _name(cls)))
        arguments = {name: _decoded(value) for name, value in arguments.items()}
        try:
            return made(**arguments)
        except TypeError as error:
            names = ", ".join(
                name
                for signature in _signatures(made)
                for name, parameter in signature.parameters.items()
                if parameter.kind not in _REST
            )
            raise ValueError(
                f"{made.__name__}.from_json: {error}; the arguments are: {names or 'none'}"
            ) from error

    def _encoded(self, name: str, value: Any) -> Any:
        if isinstance(value, Named):
            return value.to_json()
        if isinstance(value, tuple | list):
            return [self._encoded(name, item) for item in value]
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, str | int | float | bool):
            return value
        raise TypeError(
            f"{type(self).__name__}.to_json: {name} is a {type(value).__name__}, which JSON has "
            f"no form for"
        )


def _shown(value: Any) -> str:
    """Write an argument: an array by its type and shape."""
    return describe(value) if isinstance(value, np.ndarray) else repr(value)


def find(root: type[T], value: Any, aliases: Mapping[str, Callable[[], T]], example: str) -> T:
    """Return an instance: the one given, or a new one by its name.

    Raises
    ------
    ValueError
        Listing the names, if `value` is neither.
    """
    if isinstance(value, root):
        return value
    if isinstance(value, str) and value in aliases:
        return aliases[value]()
    raise ValueError(
        f"{root.family}: expected an instance, such as {example}, or one of the names "
        f"{', '.join(sorted(aliases))}; got {value!r}"
    )


_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _signatures(cls: type) -> list[inspect.Signature]:
    """Return those of a class and of the bases that its rest arguments, *args, are handed on to."""
    found = []
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            of_instance = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            found.append(inspect.Signature(of_instance))
            if not any(parameter.kind in _REST for parameter in of_instance):
                break
    return found


def _by_name(cls: type, args: Any, keywords: Any) -> dict[str, Any]:
    """Return the arguments of a call of the class by their names, those of its bases too."""
    named: dict[str, Any] = {}
    for signature in _signatures(cls):
        arguments = signature.bind_partial(*args, **keywords).arguments
        args, keywords = (), {}
        for name, value in arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                args = value
            elif kind is inspect.Parameter.VAR_KEYWORD:
                keywords = value
            else:
                named[name] = value
    if args:
        raise TypeError(
            f"{cls.__name__}.to_json: the arguments {args} have no names; give them by keyword"
        )
    return {**named, **keywords}


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def recorded(self: Any, *args: Any, **keywords: Any) -> None:
        # The outermost call is that of the instance's own class.
        self.__dict__.setdefault("_made_with", (args, keywords))
        init(self, *args, **keywords)

    return recorded


def _name(cls: type[Named]) -> str:
    """Return a name that tells the layer Softmax from the activation, and from a user's layer."""
    name = f"{cls.family}.{cls.__name__}"
    if _is_own(cls) or all(_name(c) != name for c in _descendants(Named) if _is_own(c)):
        return name
    return f"{cls.__module__}.{cls.__name__}"


def _is_own(cls: type[Named]) -> bool:
    return cls.__module__.startswith("npdl.")


def _class_named(root: type[T], name: Any) -> type[T]:
    known = {_name(cls): cls for cls in _descendants(root)}
    if name not in known:
        shown = sorted(name for name in known if "._" not in name)
        raise ValueError(
            f"unknown class {name!r}: known are {', '.join(shown)}; import the module that "
            f"defines it before loading"
        )
    return known[name]


def _descendants(root: type[T]) -> list[type[T]]:
    return [root, *(cls for child in root.__subclasses__() for cls in _descendants(child))]


def _decoded(value: Any) -> Any:
    if isinstance(value, Mapping) and "class" in value:
        return Named.from_json(value)
    return [_decoded(item) for item in value] if isinstance(value, list) else value
