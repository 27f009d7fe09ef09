import io
import re

from hypothesis import given
from hypothesis import strategies as st

from amalgam8.cli.output import Console, Lines, passable


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_chunks_do_not_matter(chunks: list[bytes]) -> None:
    apart, together = Lines(limit=16), Lines(limit=16)
    found = [line for chunk in chunks for line in apart.feed(chunk)] + apart.rest()
    assert found == together.feed(b"".join(chunks)) + together.rest()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)))
def test_lines_come_back(lines: list[str]) -> None:
    assert Lines().feed("".join(line + "\r\n" for line in lines).encode()) == lines


def test_a_line_that_never_ends_is_cut() -> None:
    lines = Lines(limit=4)
    assert lines.feed(b"abcdefgh") == []
    assert lines.feed(b"x" * 100_000) == []
    assert lines.feed(b"\nab\n") == ["abcd…", "ab"]


def test_prefixes_are_aligned_and_plain_without_a_terminal() -> None:
    stream = io.StringIO()
    console = Console(stream, ["a", "reviews-v1.1"], colour=False)
    console.line("a", "\x1b[31mred\x1b[0m and \x1b]0;title\x07more\x1b[2J")
    console.line("reviews-v1.1", "")
    assert stream.getvalue() == "a            | red and more\nreviews-v1.1 |\n"


def test_colours_on_a_terminal() -> None:
    stream = io.StringIO()
    console = Console(stream, ["a", "b"], colour=True)
    console.line("a", "x")
    console.line("b", "\x1b[31mred\x1b[2J")
    first, second = stream.getvalue().splitlines()
    assert first.startswith("\x1b[36ma |\x1b[0m x")
    assert second == "\x1b[33mb |\x1b[0m \x1b[31mred\x1b[0m"


@given(st.text(), st.booleans())
def test_no_control_character_passes(text: str, colour: bool) -> None:
    shown = passable(text, colour=colour)
    rest = re.sub(r"\x1b\[[0-9;]*m", "", shown) if colour else shown
    assert not any(ord(char) < 32 and char != "\t" for char in rest)


def test_a_reader_that_goes_away_is_told_once() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    calls: list[int] = []
    console = Console(Gone(), ["a"], colour=False, gone=lambda: calls.append(1))
    console.line("a", "x")
    console.block("y")
    assert calls == [1]
