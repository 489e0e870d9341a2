"""What the environment and `.env` say of a client class: `WEATHER__TIMEOUT=2` is the `timeout` of every `Weather`.

The environment wins over `.env` in the working directory; a variable set to nothing is not set. pydantic-settings reads and
converts them, and is imported only where a variable of the class is set: elsewhere this costs one look at the names.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fairlead.errors import ConfigError
from fairlead.headers import is_sensitive

T = TypeVar("T")

_FILE: Final = ".env"
_ASSIGNED: Final = re.compile(r"^\s*(?:export\s+)?['\"]?(\w+)['\"]?\s*=", re.MULTILINE)
_PLAIN: Final = (int, float, bool)
_UNSET: Final = object()
_KEYWORDS: Final = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


def options(owner: str, hints: Mapping[str, Any]) -> dict[str, Any]:
    """The values set for the class `owner`, of the names in `hints` only, as the types that `hints` say.

    Lists, mappings and dataclasses are written as JSON, None as `none`. Raises ConfigError for a value of another type.
    """
    if not (names := _set_names(owner)):
        return {}
    found = {}
    for name, hint in hints.items():
        variable = _variable(owner, name)
        if variable in names:
            found[name] = _read(variable, hint)
    return {name: value for name, value in found.items() if value is not _UNSET}


def make(cls: type[T], **given: Any) -> T:
    """An instance of `cls`: arguments of its own `__init__` that are not `given` come from its variables.

    `**kwargs` are followed to the constructor they are handed to. What is a client's own (`timeout`, `base_url`) is left to
    the client, which reads it by itself. Raises ConfigError naming the variables of required arguments that are missing.
    """
    wanted: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    for init, parameters in _constructors(cls):
        fresh = {name: one for name, one in parameters.items() if name not in given and name not in wanted}
        wanted |= fresh
        if fresh and _set_names(cls.__name__):
            resolved = _resolved(cls, init)
            hints |= {name: resolved.get(name, str) for name in fresh}
    found = options(cls.__name__, hints)
    required = inspect.signature(cls).parameters
    missing = [
        name for name, one in wanted.items() if name in required and one.default is one.empty and name not in found
    ]
    if missing:
        variables = " and ".join(_variable(cls.__name__, name) for name in missing)
        raise ConfigError(
            f"{cls.__name__} needs {', '.join(missing)}: set {variables} in the environment or in {_FILE}"
        )
    return cls(**found, **given)


def _variable(owner: str, name: str) -> str:
    return f"{owner}__{name}".upper()


def _set_names(owner: str) -> set[str]:
    """The variables of that class that are set somewhere, in upper case."""
    prefix = _variable(owner, "")
    names = [*os.environ]
    # Most programs have no .env, or not here; pathlib takes 3 ms to import.
    with suppress(OSError), open(_FILE, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        names += _ASSIGNED.findall(file.read())
    return {upper for name in names if (upper := name.upper()).startswith(prefix)}


def _read(variable: str, hint: Any) -> Any:
    """The value of one variable; `_UNSET` where it is set to nothing."""
    try:
        from pydantic import Field, PydanticUserError, ValidationError, create_model
        from pydantic_core import SchemaError
        from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
    except ImportError:
        raise ConfigError(
            f"{variable} is set, and reading settings needs pydantic-settings: pip install 'fairlead[fastapi]'"
        ) from None

    choices = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    kinds = [kind for kind in choices if kind is not NoneType]

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(
            env_file=_FILE,
            env_file_encoding="utf-8",
            env_ignore_empty=True,
            env_parse_none_str="none" if NoneType in choices else None,
            extra="ignore",
            validate_default=False,
            arbitrary_types_allowed=True,
        )

    # Left to right, or `bool | str` would read "false" as a string.
    order: dict[str, Any] = {"union_mode": "left_to_right"} if len(kinds) > 1 else {}
    try:
        # One model for each variable, so that every error has the variable's name.
        field = Field(_UNSET, validation_alias=variable, **order)
        return create_model("Settings", __base__=Settings, value=(hint, field))().value  # type: ignore[attr-defined]
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        # Of a union's errors, the one whose kind was right and its value wrong.
        fault = min(faults, key=lambda one: one["type"].endswith("_type"))["msg"]
    except SettingsError:
        fault = "the value is not JSON"
    except (PydanticUserError, SchemaError):
        fault = "its type cannot be written in a variable; pass it in code"
    except UnicodeDecodeError:
        raise ConfigError(f"{_FILE} is not UTF-8: save it as UTF-8 to set {variable} there") from None
    raise ConfigError(f"{_shown(variable, kinds)}: {fault[0].lower()}{fault[1:]}; correct it or unset it")


def _shown(variable: str, kinds: list[Any]) -> str:
    """The variable and where it is set; its value only where that is a number, a flag or one of a few words."""
    value = next((value for name, value in os.environ.items() if name.upper() == variable and value), None)
    if value is None:
        return f"{variable} in {_FILE}"
    plain = any(one in _PLAIN or get_origin(one) is Literal for one in kinds)
    if not plain or is_sensitive(variable.lower().replace("_", "-").encode()):
        return f"{variable} in the environment"
    return f"{variable}={value!r} in the environment"


def _constructors(cls: type) -> Iterator[tuple[Any, dict[str, inspect.Parameter]]]:
    """The `__init__` of a class and those its `**kwargs` reach, up to the client's own, each with its named parameters."""
    for owner in cls.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        if owner is object or init.__module__.partition(".")[0] == __name__.partition(".")[0]:
            return
        parameters = dict(list(inspect.signature(init).parameters.items())[1:])
        yield init, {name: one for name, one in parameters.items() if one.kind in _KEYWORDS}
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return


def _resolved(cls: type, init: Any) -> dict[str, Any]:
    try:
        return get_type_hints(init, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"{cls.__name__}.__init__: the type {error.name!r} is not known at run time; import it outside TYPE_CHECKING"
        ) from None
