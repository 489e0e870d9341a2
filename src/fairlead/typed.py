"""From JSON bytes to a value of a given type, by a decoder that is made once for each type.

msgspec decodes builtins, dataclasses, TypedDicts and its own structs; a pydantic model decodes itself. Both are imported at
their first use: msgspec alone takes as long to import as asyncio.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

Decode = Callable[[bytes], Any]


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
        raise ValueError(f"{kind.__name__} has no JSON form")
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(msgspec.json.encode(value))  # type: ignore[attr-defined]
    except ValidationError as error:
        raise ValueError(_faults(error)) from None


def _told(decode: Callable[[bytes], Any], fault: type[Exception]) -> Decode:
    def told(content: bytes) -> Any:
        try:
            return decode(content)
        except (fault, UnicodeDecodeError) as error:
            if content[:3] == b"\xef\xbb\xbf":  # a byte order mark, which RFC 8259 section 8.1 lets a reader ignore
                return told(content[3:])
            raise ValueError(
                f"not the JSON that was asked for: {error if isinstance(error, fault) else 'not UTF-8'}"
            ) from None

    return told


def _speaks_pydantic(into: Any) -> bool:
    return isinstance(into, type) and hasattr(into, "model_validate_json")


def _by_pydantic(into: Any) -> Decode:
    return _validated(into.model_validate_json)


def _type_adapter(into: Any) -> Decode | None:
    try:
        from pydantic import TypeAdapter
    except ImportError:
        return None
    return _validated(TypeAdapter(into).validate_json)


def _validated(validate: Callable[[bytes], Any]) -> Decode:
    from pydantic import ValidationError

    def validated(content: bytes) -> Any:
        try:
            return validate(content)
        except ValidationError as error:
            raise ValueError(f"not the JSON that was asked for: {_faults(error)}") from None

    return validated


def _faults(error: Any) -> str:
    """What pydantic found, without the input that its own text shows: that may hold secrets."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join([f"{fault['msg']} - at `{'.'.join(['$', *map(str, fault['loc'])])}`" for fault in faults[:3]])
