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
        decode = msgspec.json.Decoder(into).decode
    except TypeError:
        # A model inside a list, a union or a dataclass: pydantic reads those too.
        if (found := _type_adapter(into)) is None:
            raise
        return found
    return _told(decode, msgspec.DecodeError)


def _told(decode: Callable[[bytes], Any], fault: type[Exception]) -> Decode:
    def told(content: bytes) -> Any:
        try:
            return decode(content)
        except (fault, UnicodeDecodeError) as error:
            if (
                content[:3] == b"\xef\xbb\xbf"
            ):  # a byte order mark, which RFC 8259 section 8.1 lets a reader ignore
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
            # Its own text shows the input, which may hold secrets.
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            told = "; ".join(
                f"{fault['msg']} - at `{'.'.join(['$', *map(str, fault['loc'])])}`" for fault in faults[:3]
            )
            raise ValueError(f"not the JSON that was asked for: {told}") from None

    return validated
