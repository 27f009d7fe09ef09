"""Patterns mean on PCRE2 what RE2 says: shown on the real nginx, which is asked with real headers."""

import pytest
import re2

from amalgam8.routing.condition import Condition
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.nginx.patterns import test as kind_and_text
from tests.sidecar.nginx.support import Client, Mesh, backends

PATTERNS = (
    *("", "^", "$", "^$", "a", "^a", "a$", "^a$", "^.$", "^..$", r"\s", r"\v", "a{,3}", "^a{1,3}$", "[^a]$"),
    *(r"^[\d-z]+$", r"[[:alpha:]]b", "(?i)KELVIN", "(?i:x)Y", "(?s).", r"\Qa.c", r"\Qa.c\E+$", r"^\C\C$"),
    *(
        "(?P<n>a)|(?P<m>b)",
        r"^\pL+$",
        r"\PL",
        "ü",
        "^ü+$",
        "[ö-ü]",
        "(?i)Ü",
        r"\x{fc}",
        r"\x61b",
        "a*?b",
        "(?U)a+",
    ),
    *(
        r"\bab\b",
        r"\Bb",
        r"a\z",
        r"\Aa",
        "(a|b)*c",
        "(?:a(?i)b)c",
        "]",
        "}",
        r"\.",
        r"\141",
        "^(a|b)*$",
        r"^\w\W$",
    ),
)
VALUES = (
    "",
    "a",
    "b",
    "ab",
    "abc",
    "AB",
    "a.c",
    "a.c.c",
    "aaa",
    "aaaa",
    "a{,3}",
    "é",
    "ü",
    "üü",
    "Ü",
    "xY",
    "XY",
)
MORE = ("K\u212aelvin", "\u212aelvin", "kelvin", "a b", "a\tb", "9-z", "1", "a]", "}", "日本", "ab ab", "a-")


async def test_on_nginx_as_on_re2(mesh: Mesh) -> None:
    yes, no = Target("svc", ("v1",)), Target("svc", ("v2",))
    async with backends("yes", "no") as (first, second):
        peers: dict[Target, tuple[Peer, ...]] = {yes: (first.peer(),), no: (second.peer(),)}
        services = [
            ServiceRouting(
                f"s{number}",
                (Route((Slice(yes),), Condition((("x-v", pattern),)), "r"), Route((Slice(no),))),
                peers=peers,
            )
            for number, pattern in enumerate(PATTERNS)
        ]
        assert (await mesh.follow(*services)).rejected == ()
        wrong = []
        async with Client(mesh.port) as client:
            for number, pattern in enumerate(PATTERNS):
                for value in (*VALUES, *MORE):
                    found = (await client.ask(f"/s{number}/x", [("x-v", value)])).call.name == "yes"
                    if found != (re2.search(pattern, value) is not None):
                        wrong.append((pattern, value, found))
        assert wrong == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ("has", "")),
        ("abc", ("in", "abc")),
        ("^abc$", ("is", "abc")),
        ("^abc", ("begins", "abc")),
        ("abc$", ("ends", "abc")),
        ("^(a|b)$", ("regex", r"\A(?:a|b)\z")),
    ],
)
def test_common_forms_need_no_expression(pattern: str, expected: tuple[str, str]) -> None:
    assert kind_and_text(pattern) == expected


def test_what_re2_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="RE2 refuses"):
        kind_and_text(r"(a)\1")


async def test_a_bad_pattern_is_bounded_in_time(mesh: Mesh) -> None:
    target = Target("svc")
    async with backends("one") as (one,):
        peers: dict[Target, tuple[Peer, ...]] = {target: (one.peer(),)}
        service = ServiceRouting(
            "svc",
            (Route((Slice(target),), Condition((("x-v", "^(a+)+$"),)), "r"), Route((Slice(target),))),
            peers=peers,
        )
        await mesh.follow(service)
        assert (await mesh.ask("/svc/x", ("x-v", "a" * 4000 + "!"))).status == 200
