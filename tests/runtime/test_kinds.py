"""Kinds of setting: what each reads and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.runtime import kinds
from amalgam8.runtime.kinds import Kind, choice, duration, show_duration, whole

ANY = duration(0, 1e9)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.BOOLEAN, " TRUE ", True),
        (kinds.BOOLEAN, "0", False),
        (kinds.URL, " https://a.b:8080/x/ ", "https://a.b:8080/x"),
        (kinds.URL, "http://[::1]:80", "http://[::1]:80"),
        (kinds.PATH, "/a/b", Path("/a/b")),
        (kinds.PORT, "65535", 65535),
        (kinds.LISTEN_PORT, "0", 0),
        (whole(-5, 5), "-5", -5),
        (ANY, "1m30s", 90.0),
        (ANY, "500ms", 0.5),
        (ANY, "1.5h", 5400.0),
        (ANY, "7", 7.0),
        (choice("a", "b"), " A ", "a"),
        (choice("warning", same={"warn": "warning"}), "warn", "warning"),
    ],
)
def test_reads(kind: Kind[Any], text: str, value: object) -> None:
    assert kind.read(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kinds.TEXT, "a\nb"),
        (kinds.BOOLEAN, "maybe"),
        (kinds.BOOLEAN, ""),
        (kinds.URL, "localhost:80"),
        (kinds.URL, "ftp://a"),
        (kinds.URL, "http://"),
        (kinds.URL, "http://a:99999"),
        (kinds.URL, "http://a?b"),
        (kinds.PATH, " "),
        (kinds.PATH, "a\0b"),
        (kinds.PORT, "0"),
        (kinds.PORT, "65536"),
        (kinds.PORT, "8e3"),
        (kinds.PORT, "9" * 30),
        (kinds.PORT, ""),
        (ANY, "1x"),
        (ANY, "5s garbage"),
        (ANY, "-1s"),
        (ANY, ""),
        (duration(1, 2), "3s"),
        (choice("a"), "b"),
    ],
)
def test_refuses(kind: Kind[Any], text: str) -> None:
    with pytest.raises(ValueError):
        kind.read(text)


def test_what_comes_later_is_told_apart_from_nonsense() -> None:
    kind = choice("envoy", later=("nginx",))
    with pytest.raises(ValueError, match="nginx is not supported yet"):
        kind.read("nginx")
    with pytest.raises(ValueError, match=r"^$"):
        kind.read("apache")
    assert kind.allowed == "envoy"


@given(st.integers(0, 10**6))
def test_shown_durations_read_back(seconds: int) -> None:
    assert ANY.read(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.5, "0.5s"), (90, "90s"), (600, "10m"), (7200, "2h")]
)
def test_durations_are_shown_in_the_largest_fitting_unit(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text
