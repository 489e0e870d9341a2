"""From JSON bytes to a value of a given type, by a decoder that is made once for each type.

msgspec decodes builtins, dataclasses, TypedDicts and its own structs; a pydantic model decodes itself. Both are imported at
their first use: msgspec alone takes as long to import as asyncio.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

Decode = Callable[[bytes], Any]

_REPEATS: Final = re.compile(r"(Invalid enum value|Invalid value|Object contains unknown field) .*", re.DOTALL)
_PLACED: Final = re.compile(r"(.*?)( - at (?:`key` in )?`\$[^`]*`)?", re.DOTALL)


class _Fault(ValueError):
    """Words of our own, which repeat nothing."""


@lru_cache(maxsize=512)
def decoder(into: Any = None) -> Decode:
    """A function from bytes to `into` (None: builtins); what it raises is a ValueError that repeats nothing of the input."""
    if into is None:
        import msgspec

        return _told(msgspec.json.Decoder().decode, msgspec.DecodeError)
    return _by_pydantic(into) if _speaks_pydantic(into) else _by_msgspec(into)


def _by_msgspec(into: Any) -> Decode:
    import msgspec

    try:
        decode = msgspec.json.Decoder(into, dec_hook=_nested).decode
    except TypeError:
        # A union of models: pydantic reads those too.
        if (found := _type_adapter(into)) is None:
            raise
        return found
    return _told(decode, msgspec.DecodeError)


def _nested(kind: type, value: Any) -> Any:
    """A pydantic model inside a list, a dataclass or a union, which msgspec leaves to us."""
    import msgspec

    if not _speaks_pydantic(kind):
        raise _Fault(f"{kind.__name__} has no JSON form")
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(msgspec.json.encode(value))  # type: ignore[attr-defined]
    except ValidationError as error:
        raise _Fault(_faults(error, kind.__pydantic_core_schema__)) from None  # type: ignore[attr-defined]


def _told(decode: Callable[[bytes], Any], fault: type[Exception]) -> Decode:
    def told(content: bytes) -> Any:
        try:
            return decode(content)
        except (fault, UnicodeDecodeError, RecursionError) as error:
            if content[:3] == b"\xef\xbb\xbf":  # a byte order mark, which RFC 8259 section 8.1 lets a reader ignore
                return told(content[3:])
            raise ValueError(f"not the JSON that was asked for: {_kept(error)}") from None

    return told


def _kept(error: Exception) -> str:
    """The kind of fault and its place, of an error of msgspec's: some kinds repeat the value, or what a type of the caller's said."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error.__cause__, _Fault):
        return str(error)
    found = _PLACED.fullmatch(str(error))
    kind, place = found.groups("") if found is not None else ("", "")
    return ("the type refuses it" if error.__cause__ is not None else _REPEATS.sub(r"\1", kind)) + place


def _speaks_pydantic(into: Any) -> bool:
    return isinstance(into, type) and hasattr(into, "model_validate_json")


def _by_pydantic(into: Any) -> Decode:
    return _validated(into.model_validate_json, lambda: into.__pydantic_core_schema__)


def _type_adapter(into: Any) -> Decode | None:
    try:
        from pydantic import TypeAdapter
    except ImportError:
        return None
    adapter = TypeAdapter(into)
    return _validated(adapter.validate_json, lambda: adapter.core_schema)


def _validated(validate: Callable[[bytes], Any], schema: Callable[[], Any]) -> Decode:
    from pydantic import ValidationError

    def validated(content: bytes) -> Any:
        try:
            return validate(content)
        except ValidationError as error:
            raise ValueError(f"not the JSON that was asked for: {_faults(error, schema())}") from None

    return validated


def _faults(error: Any, schema: Any) -> str:
    """The kinds of fault that pydantic found and their places: its own words, and the keys of a mapping, repeat the input."""
    words = set(_words(schema))

    def place(part: int | str) -> str:
        return f"[{part}]" if isinstance(part, int) else f".{part}" if part in words else "[...]"

    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        [f"{fault['type'].replace('_', ' ')} - at `${''.join(map(place, fault['loc']))}`" for fault in faults[:3]]
    )


def _words(schema: Any) -> Iterator[str]:
    """Every word that a pydantic schema is written in, the names of fields among them."""
    if isinstance(schema, str):
        yield schema
    elif isinstance(schema, Mapping):
        for key, value in schema.items():
            yield from (*_words(key), *_words(value))
    elif isinstance(schema, list | tuple):
        for one in schema:
            yield from _words(one)
