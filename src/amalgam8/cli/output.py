"""What several processes write, line by line on one terminal: each line with the name of its writer.

Lines are cut at LINE_LIMIT, so that no process fills the memory with one that never ends. Colour only on
a terminal. Refuses to let a process move the cursor: of its control characters only colours pass.
"""

import re
from collections.abc import Callable, Sequence
from typing import TextIO

LINE_LIMIT = 4096
"""Characters of one line that are shown, in bytes as they come."""

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_SGR = re.compile(r"\x1b\[[0-9;]{0,32}m")
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Lines:
    """Cuts bytes into lines; what a line has beyond the limit is dropped and marked."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._begun = b""
        self._dropping = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        *whole, rest = data.split(b"\n")
        lines = []
        for part in whole:
            self._add(part)
            lines.append(self._take())
        self._add(rest)
        return lines

    def rest(self) -> list[str]:
        """What has no line break at its end, once nothing more comes."""
        return [self._take()] if self._begun else []

    def _add(self, part: bytes) -> None:
        room = self._limit - len(self._begun)
        self._begun += part[:room]
        self._dropping = self._dropping or len(part) > room

    def _take(self) -> str:
        text = self._begun.decode(errors="replace").rstrip("\r") + ("…" if self._dropping else "")
        self._begun, self._dropping = b"", False
        return text


class Console:
    """Writes prefixed lines to ``stream``. ``names`` are the writers that there will be.

    ``gone`` is called once if nobody reads the stream any more; what comes then is dropped.
    """

    def __init__(
        self, stream: TextIO, names: Sequence[str], *, colour: bool, gone: Callable[[], None] = lambda: None
    ) -> None:
        self._stream = stream
        self._gone = gone
        self._open = True
        self._colour = colour
        self._width = max(map(len, names))
        self._colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}

    def line(self, name: str, text: str) -> None:
        """One line of ``name``'s."""
        prefix = f"{name.ljust(self._width)} |"
        if self._colour:
            prefix = f"\x1b[{self._colours.get(name, 0)}m{prefix}\x1b[0m"
        shown = passable(text, colour=self._colour)
        self._write(f"{prefix} {shown}\n" if shown else f"{prefix}\n")

    def block(self, text: str) -> None:
        """Lines of our own, without prefix, and an empty one before and after."""
        self._write(f"\n{text}\n\n")

    def _write(self, text: str) -> None:
        if not self._open:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._open = False
            self._gone()


def passable(text: str, *, colour: bool) -> str:
    """``text`` without control characters but tabs and, where ``colour``, the colours that it sets."""
    if "\x1b" not in text:
        return _CONTROL.sub("", text)
    if not colour:
        return _CONTROL.sub("", _ESCAPE.sub("", text))
    kept = _SGR.findall(text)
    pieces = [_CONTROL.sub("", _ESCAPE.sub("", piece)) for piece in _SGR.split(text)]
    return "".join(piece + sgr for piece, sgr in zip(pieces, [*kept, "\x1b[0m"], strict=True))
