"""Structured logs on standard error, as text for people or JSON for machines.

A record is an event (a short constant sentence) with fields. Refuses to format secrets: callers do not
hand them over. Values are cut at a bound, so that no input makes a log line grow without end.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from amalgam8.runtime.kinds import Kind, choice

VALUE_LIMIT = 2000
LEVEL: Kind[str] = choice("debug", "info", "warning", "error", same={"warn": "warning"})
FORMAT: Kind[str] = choice("text", "json")


class Log:
    """A named logger whose methods take the event and its fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"amalgam8.{name}")

    def debug(self, event: str, **fields: object) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
        self._write(logging.ERROR, event, fields, exc_info)

    def _write(
        self, level: int, event: str, fields: dict[str, object], exc_info: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"a8": fields}, exc_info=exc_info)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "a8", {})
        shown = "".join(f" {key}={_text(value)}" for key, value in fields.items())
        head = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{shown}"
        return head + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": _cut(record.getMessage()),
            **{key: _plain(value) for key, value in getattr(record, "a8", {}).items()},
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure(level: str, form: str) -> None:
    """Send all logs to standard error in this form; called once, by a daemon's main."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("amalgam8").setLevel(level.upper())


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LIMIT else text[:VALUE_LIMIT] + "…"


def _plain(value: object) -> object:
    return value if isinstance(value, (int, float, bool)) or value is None else _cut(str(value))


def _text(value: object) -> str:
    text = _cut(str(value))
    return (
        text if text and all(char.isprintable() and char not in ' "=' for char in text) else json.dumps(text)
    )
