"""What a method's code says of its parameters: their names, their types, and how arguments reach them.

Names come from the code object, as `inspect.signature` would evaluate the annotations too, which may not be possible yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import CO_VARARGS, CO_VARKEYWORDS, iscoroutinefunction
from types import FunctionType, SimpleNamespace
from typing import Any, Final, get_args, get_origin, get_type_hints

from fairlead.errors import ConfigError

__all__ = ["binder", "checked", "is_model", "parameters", "resolved"]

_MODEL: Final = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__", "model_dump")


def checked(function: Any) -> FunctionType:
    """The function, if it is an async method whose parameters all have names; else ConfigError."""
    if not isinstance(function, FunctionType) or not iscoroutinefunction(function):
        raise ConfigError("a declared call is a method written with `async def`")
    if function.__code__.co_flags & (CO_VARARGS | CO_VARKEYWORDS):
        raise ConfigError("*args and **kwargs have no place in a request; name each parameter")
    if function.__code__.co_argcount == 0:
        raise ConfigError("a method takes self first")
    return function


def parameters(function: FunctionType) -> tuple[str, ...]:
    """The names after self, keyword-only ones last."""
    code = function.__code__
    return code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]


def binder(function: FunctionType, name: str, expression: str) -> Callable[..., Any]:
    """A function that takes the method's arguments, without self, and returns an expression of them.

    The interpreter binds them, with its own defaults and its own TypeErrors, as it does for `namedtuple`: a tenth of the cost of
    `inspect.Signature.bind`. The expression must hold nothing but names of parameters and literals.
    """
    code = function.__code__
    names = list(parameters(function))
    if code.co_kwonlyargcount:
        names.insert(code.co_argcount - 1, "*")
    if code.co_posonlyargcount > 1:
        names.insert(code.co_posonlyargcount - 1, "/")
    bound: Any = eval(f"lambda {', '.join(names)}: {expression}", {})  # noqa: S307  names that Python itself has parsed
    bound.__defaults__, bound.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    bound.__name__, bound.__qualname__ = function.__name__, name
    return bound  # type: ignore[no-any-return]


def resolved(function: FunctionType, name: str, around: Mapping[str, Any]) -> Any:
    """The type that one annotation names, in the function's module and in `around`; raises what its evaluation raises."""
    alone = SimpleNamespace(__annotations__={name: function.__annotations__[name]})
    return get_type_hints(alone, function.__globals__, around, include_extras=True)[name]


def is_model(hint: Any) -> bool:
    """Whether a value of this type is an object in JSON: a model or a mapping, also in a list or beside None."""
    kind = get_origin(hint) or hint
    if isinstance(kind, type) and (issubclass(kind, Mapping) or any(hasattr(kind, mark) for mark in _MODEL)):
        return True
    return any(map(is_model, get_args(hint)))
