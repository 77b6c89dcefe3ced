"""JSON-safe values: what JSON cannot say is written as ``{"$type": …, "value": …}``; never pickle.

Plain JSON stays as it is. Everything else that is not in the table below is refused, with the path
to it inside the value.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final
from uuid import UUID

from django_workflows.exceptions import InvalidInput, InvalidValue, PayloadTooLarge

TYPE: Final = "$type"
MAX_DEPTH: Final = 64
_INT_LIMIT: Final = 2**63

#: Python type -> (name in JSON, its value as JSON). Subclasses stand before their bases.
_ENCODERS: Final[tuple[tuple[type, str, Callable[[Any], Any]], ...]] = (
    (datetime, "datetime", datetime.isoformat),
    (date, "date", date.isoformat),
    (time, "time", time.isoformat),
    (timedelta, "timedelta", timedelta.total_seconds),
    (Decimal, "decimal", str),
    (UUID, "uuid", str),
    (bytes, "bytes", lambda value: base64.b64encode(value).decode()),
    (bytearray, "bytes", lambda value: base64.b64encode(bytes(value)).decode()),
)

_DECODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda value: timedelta(seconds=value),
    "decimal": Decimal,
    "uuid": UUID,
    "bytes": base64.b64decode,
}

_registered: dict[str, type] = {}
_references: list[tuple[Callable[[Any], bool], Callable[[Any], Any]]] = []
_resolvers: list[Callable[[Any], Any]] = []


def register_type(cls: type, name: str = "") -> type:
    """Let an Enum or dataclass come back as itself, and not only as its plain value."""
    _registered[name or cls.__name__] = cls
    return cls


def register_reference(
    is_reference: Callable[[Any], bool], encode_one: Callable[[Any], Any], decode_one: Callable[[Any], Any]
) -> None:
    """Let an outer room store things by reference, as ``{"$type": "model", "value": encode_one(thing)}``."""
    _references.append((is_reference, encode_one))
    _resolvers.append(decode_one)


def encode(value: Any, *, max_bytes: int | None = None, max_depth: int = MAX_DEPTH) -> Any:
    """The value as JSON. Raises ``InvalidValue`` with its ``path``, or ``PayloadTooLarge``."""
    found = _encode(value, "$", max_depth)
    if max_bytes is not None and isinstance(found, (str, list, dict)):
        size = len(json.dumps(found, ensure_ascii=False).encode())
        if size > max_bytes:
            raise PayloadTooLarge(
                f"The value has {size:,} bytes as JSON; allowed are {max_bytes:,}.", limit=max_bytes, size=size
            )
    return found


def _encode(value: Any, path: str, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value, path)
    if kind is int:
        return _number(value, path)
    if kind is float:
        if not math.isfinite(value):
            raise InvalidValue(f"{path} is {value}, which JSON does not have.", path=path)
        return value
    if depth <= 0:
        raise PayloadTooLarge(f"{path} is nested too deeply; allowed are {MAX_DEPTH} levels.", path=path)
    if kind is dict:
        return _object(value, path, depth)
    if kind is list:
        return [_encode(item, f"{path}[{number}]", depth - 1) for number, item in enumerate(value)]
    return _extension(value, path, depth)


def _text(value: str, path: str) -> str:
    if value.isascii():
        if "\x00" in value:
            raise InvalidValue(f"{path} holds a NUL character, which databases refuse.", path=path)
        return value
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{path} holds half of a character (a lone surrogate).", path=path) from error
    if "\x00" in value:
        raise InvalidValue(f"{path} holds a NUL character, which databases refuse.", path=path)
    return value


def _number(value: int, path: str) -> int:
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise InvalidValue(f"{path} is a whole number of more than 64 bits.", path=path)
    return value


def _object(value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
    found = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidValue(f"{path} has the key {key!r:.40}, which is no text.", path=path)
        found[_text(key, f"{path} (a key)")] = _encode(item, f"{path}.{key:.60}", depth - 1)
    return {TYPE: "object", "value": found} if TYPE in found else found


def _extension(value: Any, path: str, depth: int) -> Any:
    for kind, name, write in _ENCODERS:
        if isinstance(value, kind):
            return {TYPE: name, "value": write(value)}
    if isinstance(value, Enum):
        return _tagged(value, _encode(value.value, path, depth - 1))
    if is_dataclass(value) and not isinstance(value, type):
        content = {field.name: getattr(value, field.name) for field in fields(value)}
        return _tagged(value, _object(content, path, depth - 1))
    for is_reference, encode_one in _references:
        if is_reference(value):
            return {TYPE: "model", "value": encode_one(value)}
    return _relative(value, path, depth)


def _relative(value: Any, path: str, depth: int) -> Any:
    """Subclasses of what JSON knows, and the collections it does not."""
    if isinstance(value, (tuple, set, frozenset)):
        items = [_encode(item, f"{path}[{number}]", depth - 1) for number, item in enumerate(value)]
        return {TYPE: "tuple" if isinstance(value, tuple) else "set", "value": items}
    if isinstance(value, Mapping):
        return _object(value, path, depth)
    kinds: tuple[Callable[[Any], Any], ...] = (str, bool, float, int, list)
    for kind in kinds:
        if isinstance(value, kind):  # type: ignore[arg-type]
            return _encode(kind(value), path, depth)
    raise InvalidValue(f"{path} is a {type(value).__name__}, which cannot be stored as JSON.", path=path)


def _tagged(value: Any, content: Any) -> Any:
    """With the name of its class if that is registered, else the plain content."""
    for name, cls in _registered.items():
        if type(value) is cls:
            return {TYPE: "registered", "name": name, "value": content}
    return content


def decode(value: Any) -> Any:
    """What ``encode`` was given; raises ``InvalidValue`` for an extension that is unknown or broken."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TYPE in value:
        return _decode_extension(value)
    return {key: decode(item) for key, item in value.items()}


def _decode_extension(value: dict[str, Any]) -> Any:
    name, content = value[TYPE], value.get("value")
    try:
        if name == "object":
            return {key: decode(item) for key, item in content.items()}  # type: ignore[union-attr]
        if name in ("tuple", "set"):
            items = [decode(item) for item in content]  # type: ignore[union-attr]
            return tuple(items) if name == "tuple" else set(items)
        if name == "registered":
            return _decode_registered(_registered[value["name"]], decode(content))
        if name == "model":
            return _resolvers[-1](content)
        return _DECODERS[name](content)
    except (KeyError, ValueError, TypeError, AttributeError, InvalidOperation, IndexError) as error:
        raise InvalidValue(f"{value!r:.200} is no value that was stored here.", path="$") from error


def _decode_registered(cls: type, content: Any) -> Any:
    return cls(content) if issubclass(cls, Enum) else cls(**content)


def plain(value: Any) -> Any:
    """Stored JSON as expressions see it: times as text, decimals and durations (seconds) as numbers."""
    if isinstance(value, dict):
        if TYPE in value:
            return _plain_extension(value)
        return {key: plain(item) if isinstance(item, (dict, list)) else item for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) if isinstance(item, (dict, list)) else item for item in value]
    return value


def _plain_extension(value: dict[str, Any]) -> Any:
    name, content = value[TYPE], value.get("value")
    if name == "decimal":
        return float(content)  # type: ignore[arg-type]
    if name == "object" and isinstance(content, dict):
        return {key: plain(item) for key, item in content.items()}
    return plain(content)


def parse_json(text: str | bytes, *, max_bytes: int) -> Any:
    """Strict JSON. Raises ``PayloadTooLarge``, or ``InvalidInput`` with line and column; refuses NaN,
    infinities, double keys and what ``encode`` refuses."""
    if len(text) > max_bytes:
        raise PayloadTooLarge(f"The text has more than {max_bytes:,} bytes.", limit=max_bytes)
    try:
        source = text.decode("utf-8") if isinstance(text, bytes) else text
        found = json.loads(source, parse_constant=_refuse_constant, object_pairs_hook=_unique, parse_int=_parse_int)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"Line {error.lineno}, column {error.colno}: {error.msg}.", line=error.lineno, column=error.colno
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The text is not UTF-8: {error.reason}.", line=0, column=0) from error
    except RecursionError as error:
        raise PayloadTooLarge("The text is nested too deeply.", limit=MAX_DEPTH) from error
    _check_tree(found, "$", MAX_DEPTH)
    return found


def _check_tree(value: Any, path: str, depth: int) -> None:
    """The same refusals as ``encode``, for what is JSON already."""
    if isinstance(value, str):
        _text(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{path} is too large a number.", line=0, column=0)
    elif isinstance(value, (dict, list)):
        if depth <= 0:
            raise PayloadTooLarge(f"{path} is nested too deeply; allowed are {MAX_DEPTH} levels.", path=path)
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(key, str):
                _text(key, f"{path} (a key)")
            _check_tree(item, f"{path}.{key}", depth - 1)


def _refuse_constant(name: str) -> Any:
    raise InvalidInput(f"{name} is not JSON.", line=0, column=0)


def _parse_int(text: str) -> int:
    if len(text) > 20:
        raise InvalidInput("A whole number has more than 64 bits.", line=0, column=0)
    return _number(int(text), "$")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidInput(f"The key {double!r} stands twice in one object.", line=0, column=0)
    return found
