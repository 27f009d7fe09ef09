import io
import sys

import msgspec
import pytest
import yaml

from amalgam8.cli import show


def test_a_table() -> None:
    assert show.table(("A", "Long name"), [("1", "x"), ("four", "")]) == (
        "+------+-----------+\n"
        "| A    | Long name |\n"
        "+------+-----------+\n"
        "| 1    | x         |\n"
        "| four |           |\n"
        "+------+-----------+"
    )


def test_a_table_without_rows() -> None:
    assert show.table(("A",), []) == "+---+\n| A |\n+---+"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 文", "plain é 文"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202e", "\\u202e"),
    ],
)
def test_control_characters_are_shown_not_sent(text: str, shown: str) -> None:
    assert show.clean(text) == shown
    assert shown in show.table(("A",), [(text,)])


def test_one_line() -> None:
    assert show.one_line("a\n  b\r\nc\x07") == "a b c\\x07"


def test_yaml_keeps_order_and_reads_back() -> None:
    class Noun(msgspec.Struct):
        z: int
        a: tuple[str, ...]

    shown = show.as_yaml({"rules": [Noun(1, ("x: y", "é", "no"))]})
    assert yaml.safe_load(shown) == {"rules": [{"z": 1, "a": ["x: y", "é", "no"]}]}
    assert shown.index("z:") < shown.index("a:")
    assert "é" in shown


@pytest.mark.parametrize(
    ("terminal", "environ", "wanted"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_when_colour_is_wanted(terminal: bool, environ: dict[str, str], wanted: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    assert show.wants_colour(Stream(), environ) is wanted


def test_colour_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    rows = [(show.coloured("gone\x1b[2J", "red"), "x")]
    plain = show.table(("A", "B"), rows)
    assert "\x1b" not in plain
    assert "| gone\\x1b[2J | x |" in plain
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert "| \x1b[31mgone\\x1b[2J\x1b[0m | x |" in show.table(("A", "B"), rows)
    monkeypatch.setenv("NO_COLOR", "1")
    assert show.table(("A", "B"), rows) == plain
