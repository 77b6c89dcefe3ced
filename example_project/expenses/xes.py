"""Reading and writing event logs in XES (IEEE 1849), streamed, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

#: Keys under which the logs of the BPI Challenge 2020 keep the amount and the number of a case.
AMOUNT_KEYS = ("Amount", "RequestedAmount", "OriginalAmount", "AdjustedAmount")
NUMBER_KEYS = ("DeclarationNumber", "RfpNumber", "dec_id_0", "id")
PREFIXES = ("(case)_", "case:", "")
CHUNK = 1 << 16

Value = str | int | float | bool | datetime


class LogError(Exception):
    """A log that cannot be read; the message names the file and the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    activity: str
    at: datetime
    resource: str = ""
    role: str = ""
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A trace; its events are in the order of their times, ties in the order of the file."""

    id: str
    events: tuple[Event, ...]
    attributes: Mapping[str, Value]

    def find(self, keys: Iterable[str]) -> Value | None:
        """The first of these attributes, of the trace or of its events, with or without a prefix."""
        places = (self.attributes, *(event.attributes for event in self.events[:1]))
        for key in keys:
            for prefix in PREFIXES:
                for place in places:
                    if prefix + key in place:
                        return place[prefix + key]
        return None

    @property
    def amount(self) -> float | None:
        try:
            return float(str(self.find(AMOUNT_KEYS)))
        except ValueError:
            return None

    @property
    def number(self) -> str:
        found = self.find(NUMBER_KEYS[:-1])
        return self.id if found is None else str(found)


def read_log(path: str | Path) -> Iterator[Case]:
    """The cases of a log, one after the other. Raises ``LogError`` where it breaks, after what came before."""
    name = str(path)
    found = 0
    try:
        with _opened(Path(path)) as stream:
            for case in _cases(stream, name):
                found += 1
                yield case
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        place = f"line {error.lineno}, column {error.offset + 1}"
        raise LogError(f"{name}: {place}: {reason} (after {found} cases)") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LogError(f"{name}: the compressed file is broken after {found} cases: {error}") from error
    except OSError as error:
        raise LogError(f"{name}: {error.strerror or error}") from error
    if not found:
        raise LogError(f"{name}: the log holds no trace.")


def _opened(path: Path) -> IO[bytes]:
    """By its first two bytes, whatever its name says."""
    with path.open("rb") as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if is_gzip else path.open("rb")


def _cases(stream: IO[bytes], name: str) -> Iterator[Case]:
    reader = _Traces(name)
    while chunk := stream.read(CHUNK):
        reader.parser.Parse(chunk, False)
        for trace in reader.taken():
            yield _case(trace, name)
    if not reader.is_begun:
        raise LogError(f"{name}: the file is empty.")
    reader.parser.Parse(b"", True)


class _Traces:
    """Builds the elements of one trace at a time; everything outside of traces is passed over.

    A document type is refused, and with it entities that could grow without bound.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_begun = False
        self._stack: list[ElementTree.Element] = []
        self._done: list[ElementTree.Element] = []
        self.parser = expat.ParserCreate(namespace_separator="}")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse

    def taken(self) -> list[ElementTree.Element]:
        """The traces that are complete; they are handed over once."""
        done, self._done = self._done, []
        return done

    def _refuse(self, *_: Any) -> None:
        raise LogError(f"{self.name}: a document type is not allowed.")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        if not self.is_begun and tag != "log":
            raise LogError(f"{self.name}: this is no XES log, its root is <{tag}>.")
        self.is_begun = True
        if not self._stack and tag != "trace":
            return
        element = ElementTree.Element(tag, attributes)
        if self._stack:
            self._stack[-1].append(element)
        self._stack.append(element)

    def _end(self, tag: str) -> None:
        if not self._stack:
            return
        element = self._stack.pop()
        if not self._stack:
            self._done.append(element)


def _case(element: ElementTree.Element, name: str) -> Case:
    attributes = _attributes(element)
    key = str(attributes.get("concept:name", ""))
    events = [
        _event(child, f"{name}: case {key or '(unnamed)'}, event {number}")
        for number, child in enumerate(element.iterfind("event"), 1)
    ]
    if not key:
        raise LogError(f"{name}: a trace has no concept:name.")
    return Case(id=key, events=tuple(sorted(events, key=lambda event: event.at)), attributes=attributes)


def _event(element: ElementTree.Element, place: str) -> Event:
    attributes = _attributes(element)
    activity, at = attributes.get("concept:name"), attributes.get("time:timestamp")
    if not activity:
        raise LogError(f"{place}: it has no concept:name.")
    if not isinstance(at, datetime):
        raise LogError(f"{place}: it has no time, or one that cannot be read: {at!r}.")
    return Event(
        activity=str(activity),
        at=at,
        resource=str(attributes.get("org:resource", "")),
        role=str(attributes.get("org:role", "")),
        attributes=attributes,
    )


def _attributes(element: ElementTree.Element) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for child in element:
        key, text = child.get("key"), child.get("value")
        if key is not None and text is not None:
            found[key] = _value(child.tag, text)
    return found


def _value(kind: str, text: str) -> Value:
    """By the XES type; a text that does not fit its type stays text."""
    try:
        if kind == "date":
            at = datetime.fromisoformat(text)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError:
        return text
    return text == "true" if kind == "boolean" else text


def write_log(cases: Iterable[Case], path: str | Path) -> int:
    """Write a log that ``read_log`` reads; gzipped if the name ends so. Returns the number of cases."""
    target, count = Path(path), 0
    with _created(target) as out:
        out.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n<log xmlns="http://www.xes-standard.org/" xes.version="1.0">\n'
        )
        for case in cases:
            count += 1
            out.write(f'<trace><string key="concept:name" value={quoteattr(case.id)}/>\n')
            out.writelines(_written(event) for event in case.events)
            out.write("</trace>\n")
        out.write("</log>\n")
    return count


def _created(target: Path) -> IO[str]:
    return gzip.open(target, "wt", encoding="utf-8") if target.suffix == ".gz" else target.open("w", encoding="utf-8")


def _written(event: Event) -> str:
    fixed = {"concept:name": event.activity, "org:resource": event.resource, "org:role": event.role}
    extra = {key: str(value) for key, value in event.attributes.items() if key not in fixed and key != "time:timestamp"}
    texts = "".join(f"<string key={quoteattr(key)} value={quoteattr(text)}/>" for key, text in (fixed | extra).items())
    return f'<event>{texts}<date key="time:timestamp" value="{event.at.isoformat()}"/></event>\n'
