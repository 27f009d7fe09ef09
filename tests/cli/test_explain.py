"""explain against a real controller: what is asked, supposed and compared, and how it is shown."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from amalgam8.cli.explain import RulesMove, asked, both
from amalgam8.model.errors import InvalidSetting
from tests.cli.real import Real
from tests.cli.standin import Cli
from tests.controller.rules import delay, document

JASON = document(
    version="v2",
    id="jason",
    priority=2,
    match={"headers": {"Cookie": "user=jason"}, "source": {"name": "web"}},
)
ASK = ("explain", "--from", "web:v1", "--to", "reviews")


@pytest.fixture
async def ruled(mesh: Real) -> Real:
    await mesh.controller.client.create([document(id="default"), JASON, delay("reviews", id="slow")])
    return mesh


@pytest.fixture
def canary(tmp_path: Path) -> str:
    path = tmp_path / "canary.yaml"
    split = {"backends": [{"tags": ["v3"], "weight": 0.25}, {"tags": ["v1"]}]}
    path.write_text(yaml.safe_dump([{"id": "default", "destination": "reviews", "route": split}]))
    return str(path)


async def test_what_happens_and_why(ruled: Real) -> None:
    ran = await ruled(*ASK, "-H", "Cookie: user=bob")
    assert ran.code == 0
    assert "reviews (by path)" in ran.out
    assert "100 % reviews:v1, delay 7 s" in ran.out
    assert "the header Cookie is 'user=bob', and 'user=jason' is not found in it" in ran.out
    assert "route: chooses the version" in ran.out
    assert "no registry was asked" in ran.err
    jason = await ruled(*ASK, "-H", "Cookie: user=jason")
    assert "100 % reviews:v2, delay 7 s" in jason.out
    assert "route: jason matches first" in jason.out


@pytest.mark.parametrize("form", ["json", "yaml"])
async def test_for_programs(ruled: Real, form: str) -> None:
    ran = await ruled(*ASK, "-o", form)
    found = json.loads(ran.out) if form == "json" else yaml.safe_load(ran.out)
    assert [one["tags"] for one in found["versions"]] == [["v1"]]
    assert (found["revision"], found["service"]) == (1, "reviews")


async def test_what_would_happen(ruled: Real, canary: str) -> None:
    ran = await ruled(*ASK, "--with", canary, "--without", "slow", "-o", "json")
    found = json.loads(ran.out)
    assert [(one["tags"], one["probability"]) for one in found["versions"]] == [
        (["v3"], 0.25),
        (["v1"], 0.75),
    ]
    assert await ruled.rules() == {"default": "v1", "jason": "v2", "slow": "fault"}


async def test_now_and_then_side_by_side(ruled: Real, canary: str) -> None:
    ran = await ruled(*ASK, "--with", canary, "--compare")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ran.out.splitlines()]
    assert ["", "Now", "Then"] in lines
    assert ["Service", "reviews (by path)", "reviews (by path)"] in lines
    assert ["* Versions", "100 % reviews:v1, delay 7 s", "25 % reviews:v3, delay 7 s"] in lines
    assert ["", "", "75 % reviews:v1, delay 7 s"] in lines
    shown = json.loads((await ruled(*ASK, "--with", canary, "--compare", "-o", "json")).out)
    assert (len(shown["now"]["versions"]), len(shown["then"]["versions"])) == (1, 2)


async def test_a_comparison_asks_for_now_and_for_then(a8ctl: Cli) -> None:
    a8ctl.server.answers[("POST", "/v1/explain")] = {"revision": 0}
    ran = await a8ctl(*ASK, "--without", "x", "--compare", "-o", "json")
    assert (ran.code, len(a8ctl.server.seen)) == (0, 2)
    assert [seen.body.get("without") for seen in a8ctl.server.seen] == [None, ["x"]]


async def test_a_comparison_is_of_one_revision() -> None:
    class Moving:
        def __init__(self, *revisions: int) -> None:
            self.revisions = list(revisions)

        async def explain(self, question: Any) -> dict[str, Any]:
            return {"revision": self.revisions.pop(0), "asked": question}

    still: Any = Moving(1, 2, 2, 2)
    now, then = await both(still, {"q": 1}, {"q": 2})
    assert (now["asked"], then["asked"], now["revision"]) == ({"q": 1}, {"q": 2}, 2)
    moving: Any = Moving(*range(100))
    with pytest.raises(RulesMove):
        await both(moving, {}, {})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "say which call"),
        (("--to", "reviews", "--compare"), "--compare needs --with or --without"),
        (("--to", "reviews", "-H", "Cookie"), "'Cookie' is not allowed; allowed: 'NAME: VALUE'"),
        (("--to", "reviews", "--with", "/no/such"), "cannot read /no/such"),
    ],
)
async def test_a_question_that_is_none(a8ctl: Cli, flags: tuple[str, ...], words: str) -> None:
    ran = await a8ctl("explain", *flags)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert a8ctl.server.seen == []


async def test_the_controller_refuses(ruled: Real) -> None:
    ran = await ruled(*ASK, "--without", "nobody")
    assert (ran.code, ran.err) == (1, "a8ctl: there is no rule nobody\n")
    assert (await ruled("explain", "--to", "a b")).code == 1


async def test_an_answer_of_another_kind(a8ctl: Cli) -> None:
    a8ctl.server.answers[("POST", "/v1/explain")] = {"versions": 7}
    ran = await a8ctl(*ASK)
    assert (ran.code, ran.err.count("\n")) == (5, 1)


def test_a_header_that_comes_twice_is_joined() -> None:
    question = asked(
        "web:v1, v2", "reviews", "/x", "GET", ["A: 1", "a:2", "B:", "Cookie: a=1", "cookie: b=2"]
    )
    assert question["headers"] == {"a": "1,2", "b": "", "cookie": "a=1; b=2"}
    assert question["source"] == {"name": "web", "tags": ["v1", "v2"]}
    with pytest.raises(InvalidSetting):
        asked("web", "", "", "GET", [])
