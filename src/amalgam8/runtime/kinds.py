"""Kinds of setting: how a text becomes a value, and the words for what is allowed."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


@dataclasses.dataclass(frozen=True)
class Kind(Generic[T]):
    """``read`` raises ValueError (whose text may be empty) for a text that is not allowed.

    ``entry`` writes an entry of a file's list that is a mapping as text; it raises ValueError too.
    """

    allowed: str
    read: Callable[[str], T]
    show: Callable[[Any], str] = str
    many: bool = False
    entry: Callable[[Mapping[str, Any]], str] | None = None


def _boolean(text: str) -> bool:
    value = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    if text.strip().lower() not in value:
        raise ValueError
    return value[text.strip().lower()]


def _duration(text: str) -> float:
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _url(text: str) -> str:
    text = text.strip().rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError
    _ = parts.port  # raises ValueError where it is no port
    return text


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError
    return Path(text).expanduser()


def _text(text: str) -> str:
    if any(ord(char) < 32 for char in text):
        raise ValueError("holds a control character")
    return text


def show_duration(seconds: Any) -> str:
    """``30s``, ``10m``; the form in which durations are written."""
    if not seconds:
        return "0s"
    for unit in ("h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.15g}{unit}"
    return f"{seconds:.15g}s"


TEXT = Kind[str]("text", _text)
BOOLEAN = Kind[bool]("true or false", _boolean, lambda value: "true" if value else "false")
URL = Kind[str]("an http or https URL such as http://localhost:8080", _url)
PATH = Kind[Path]("a path", _path)
FILE = Kind[Path | None]("a path", lambda text: _path(text) if text else None, lambda value: str(value or ""))


def whole(low: int, high: int) -> Kind[int]:
    """A whole number between ``low`` and ``high``, both included."""

    def read(text: str) -> int:
        value = int(text) if re.fullmatch(r"[+-]?\d{1,18}", text.strip()) else None
        if value is None or not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"a whole number from {low} to {high}", read)


PORT = whole(1, 65535)
LISTEN_PORT = Kind[int]("a port from 1 to 65535, or 0 for any free one", whole(0, 65535).read)


def duration(low: float, high: float) -> Kind[float]:
    """Seconds between the bounds, written ``30s``, ``1m30s``, ``500ms`` or as a plain number of seconds."""

    def read(text: str) -> float:
        value = _duration(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return Kind(
        f"a duration from {show_duration(low)} to {show_duration(high)}, such as 30s or 10m",
        read,
        show_duration,
    )


def choices(*allowed: str) -> Kind[tuple[str, ...]]:
    """Some of a few words, in an order that counts; written with commas, or the flag repeated."""

    def read(text: str) -> tuple[str, ...]:
        words = tuple(word.strip().lower() for word in text.split(","))
        if not set(words) <= set(allowed) or len(set(words)) < len(words):
            raise ValueError
        return words

    return Kind(f"{', '.join(allowed)}, or several with commas between them", read, ",".join, many=True)


def choice(*allowed: str, later: tuple[str, ...] = (), same: Mapping[str, str] | None = None) -> Kind[str]:
    """One of a few words; ``later`` are known and not supported yet, ``same`` maps other spellings."""

    def read(text: str) -> str:
        word = text.strip().lower()
        word = (same or {}).get(word, word)
        if word in later:
            raise ValueError(f"{word} is not supported yet")
        if word not in allowed:
            raise ValueError
        return word

    return Kind(" or ".join(allowed), read)
