"""The base class of the stateful API: configurations, and instances by name.

An instance records the arguments of its constructor call. Its configuration is its class and these
arguments. So a user's subclass can be saved and loaded without additional code, if its module is
imported before loading.
"""

import copy
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from npdl._config import Functions, decode, encode_instance, not_too_deep
from npdl.compat._functions import functions_with
from npdl.compat._keras_arguments import VALUES, translated
from npdl.functional._arrays import describe

__all__ = ["Named", "argument_names", "find"]

T = TypeVar("T", bound="Named")


class Named:
    """The base of layers, activations, initializers, objectives and optimizers."""

    # The module of a root class, such as "layers".
    family: ClassVar[str] = ""
    # Attributes that every subclass accepts as keyword arguments of its constructor.
    options: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls, cls.__init__)  # type: ignore[method-assign]

    @classmethod
    def _rearranged(cls, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the arguments of a call, rearranged for the constructor, or raise.

        Parameters
        ----------
        args, keywords : tuple, dict
            The positional and keyword arguments of the call.
        """
        return args, keywords

    def _set_options(self, options: Mapping[str, Any]) -> None:
        """Set the attributes of :attr:`options` that were passed to the constructor.

        Parameters
        ----------
        options : dict
            Values by the names of :attr:`options`.
        """
        for name, value in options.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return type(self).__name__

    def to_json(self) -> dict[str, Any]:
        """Return the configuration: the class and its arguments, as JSON values.

        Arguments with weights are left out.
        """
        if Named in type(self).__bases__:
            raise NotImplementedError(f"{type(self).__name__}.to_json")
        return encode_instance(_name(type(self)), self._saved_arguments())

    def _configuration(self, where: str) -> dict[str, Any]:
        return self.to_json()

    def _saved_arguments(self) -> dict[str, Any]:
        """Return the arguments in the configuration."""
        return self._arguments()

    def __repr__(self) -> str:
        shown = [f"{name}={_shown(value)}" for name, value in self._arguments().items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _arguments(self) -> dict[str, Any]:
        args, keywords = self.__dict__.get("_call_arguments", ((), {}))
        named, known = _by_name(type(self), args, keywords), argument_names(type(self))
        for name in self.options:
            if name in vars(self) and name not in known:
                named[name] = vars(self)[name]
        return named

    @classmethod
    def from_json(cls: type[T], config: str | Mapping[str, Any]) -> T:
        """Return a new instance from a configuration.

        Parameters
        ----------
        config : dict or str
            The result of :meth:`to_json`, or the same as a JSON string. Without a ``"class"``, it
            has the arguments of the class of this method.

        Raises
        ------
        ValueError
            If the class or an argument is unknown, or the configuration is nested too deep.
        """
        with not_too_deep(f"{cls.__name__}.from_json"):
            values = json.loads(config) if isinstance(config, str) else config
            return cls._from_json(values, functions_with())

    @classmethod
    def _from_json(cls: type[T], values: Any, functions: Functions) -> T:
        if not isinstance(values, Mapping):
            raise ValueError(
                f"{cls.__name__}.from_json: expected a configuration, got {values!r:.80}"
            )
        arguments = dict(values)
        named = _class_named(cls, arguments.pop("class", _name(cls)))
        known, name = argument_names(named), named.__name__
        instance = functools.partial(Named._from_json, functions=functions)
        try:
            # A configuration has only the names of the class; Keras's names are for scripts.
            unknown = arguments.keys() - known.keys() - {*named.options}
            if unknown and (_is_own(named) or not _takes_any(named)):
                raise TypeError(f"a configuration of {name}: unknown argument {min(unknown)!r}")
            return named(
                **{key: decode(item, functions, instance) for key, item in arguments.items()}
            )
        except TypeError as error:
            names = ", ".join(known) or "none"
            raise ValueError(f"{name}.from_json: {error}; the arguments are: {names}") from error


def _shown(value: Any) -> str:
    """Return the repr of an argument; for an array, its type and shape."""
    return describe(value) if isinstance(value, np.ndarray) else repr(value)


def find(root: type[T], value: Any, aliases: Mapping[str, Callable[[], T]], example: str) -> T:
    """Return a copy of an instance, or a new instance of the class with a name.

    Raises
    ------
    ValueError
        If `value` is neither; the message lists the names.
    """
    if isinstance(value, root):
        return copy.deepcopy(value)
    if isinstance(value, str) and VALUES.get(value, value) in aliases:
        return aliases[VALUES.get(value, value)]()
    raise ValueError(
        f"{root.family}: expected an instance, such as {example}, or one of the names "
        f"{', '.join(sorted(aliases))}; got {value!r}"
    )


_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _signatures(cls: type) -> list[inspect.Signature]:
    """Return the signatures of a class and of the bases that it passes *args or **kwargs to."""
    found = []
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            of_instance = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            found.append(inspect.Signature(of_instance))
            if not any(parameter.kind in _REST for parameter in of_instance):
                break
    return found


def _by_name(cls: type, args: Any, keywords: Any) -> dict[str, Any]:
    """Return the arguments of a constructor call by name, including names of base classes."""
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
            f"{cls.__name__}.to_json: the arguments {args} have no names; pass them by keyword"
        )
    return {**named, **keywords}


def _recording(cls: type[Named], init: Callable[..., None]) -> Callable[..., None]:
    # A user's constructor with **kwargs reads the names itself.
    adapts = _is_own(cls) or not _takes_any(init)

    @functools.wraps(init)
    def recorded(self: Any, *args: Any, **keywords: Any) -> None:
        # Constructors of base classes run nested in the constructor of the instance's class.
        outermost = "_call_arguments" not in self.__dict__
        options: Any = {}
        if adapts:
            owner = type(self) if outermost and _is_own(type(self)) else cls
            args, keywords, options = _adapted(owner, args, keywords)
        if outermost:
            self.__dict__["_call_arguments"] = (args, keywords)
        init(self, *args, **keywords)
        if options:
            self._set_options(options)

    return recorded


def _takes_any(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _adapted(cls: type[Named], args: Any, keywords: Any) -> tuple[Any, dict[str, Any], Any]:
    """Return the arguments of a constructor, and the additional options."""
    if _is_own(cls):
        args, keywords = cls._rearranged(args, keywords)
    known = argument_names(cls)
    if keywords.keys() <= known.keys():
        return args, keywords, {}
    found = translated(cls.__name__, known, keywords, cls.options)
    options = {name: found.pop(name) for name in cls.options if name in found.keys() - known.keys()}
    return args, found, options


def argument_names(cls: type) -> dict[str, None]:
    """Return the names of the constructor arguments of a class, in order."""
    return _names_of(cls)


@functools.cache
def _names_of(cls: Any) -> dict[str, None]:
    return {
        name: None
        for signature in _signatures(cls)
        for name, parameter in signature.parameters.items()
        if parameter.kind not in _REST
    }


def _name(cls: type[Named]) -> str:
    """Return a unique name: the layer Softmax differs from the activation and a user's class."""
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
            f"unknown class {name!r}; known classes are {', '.join(shown)}; import the module that "
            f"defines it before loading"
        )
    return known[name]


def _descendants(root: type[T]) -> list[type[T]]:
    return [root, *(cls for child in root.__subclasses__() for cls in _descendants(child))]
