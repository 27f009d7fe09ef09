"""Flags of every writing command: waiting, who and why, and what is said where somebody is missing."""

import asyncio
import json
from pathlib import Path

import pytest

from amalgam8.model.caller import caller
from tests.cli.real import Real
from tests.cli.standin import Cli
from tests.conftest import eventually
from tests.controller.rules import document

WEB = caller("web", ["v1"])


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([document(id="a", source="web")]))
    return str(path)


async def test_wait_lists_who_is_missing_and_ends_with_4(mesh: Real, file: str) -> None:
    identity = await mesh.sidecar(WEB)
    await mesh.sidecar(caller("api"))
    ran = await mesh("rule-create", "-f", file, "--wait", "--timeout", "100ms")
    assert (ran.code, json.loads(ran.out)) == (4, {"ids": ["a"]})
    assert ran.err.splitlines() == [
        f"missing: web:v1 pending {identity}",
        "a8ctl: revision 1 is written, but not applied in 1 of the 1 sidecar that it concerns",
    ]
    ran = await mesh("rule-delete", "a", "--wait", "--timeout", "100ms")
    assert (ran.code, ran.out) == (0, "Deleted.\n")  # the rule never was in its Plan
    assert await mesh.rules() == {}


async def test_a_delete_waits_too(mesh: Real, file: str) -> None:
    assert (await mesh("rule-create", "-f", file)).code == 0
    identity = await mesh.sidecar(WEB)
    ran = await mesh("rule-delete", "a", "--wait", "--timeout", "0.1s")
    assert ran.code == 4
    assert identity in ran.err


async def test_wait_ends_when_it_is_applied(mesh: Real, file: str) -> None:
    identity = await mesh.sidecar(WEB)
    waiting = asyncio.create_task(mesh("rule-create", "-f", file, "--wait", "--timeout", "20s"))

    async def written() -> bool:
        return await mesh.rules() != {}

    await eventually(written)
    await mesh.report(identity, WEB)
    ran = await waiting
    assert (ran.code, ran.err) == (0, "")


async def test_who_and_why_go_into_the_history(
    mesh: Real, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A8_AUTHOR", "Zoë")
    assert (await mesh("rule-create", "-f", file, "--comment", "naïve\nidea")).code == 0
    assert (await mesh("rule-update", "-f", file, "--author", "ann")).code == 0
    newest, first = (await mesh.controller.client.history()).revisions
    assert (first.author, first.comment, newest.author) == ("Zoë", "naïve idea", "ann")


async def test_only_at_this_revision(mesh: Real, file: str) -> None:
    assert (await mesh("rule-create", "-f", file, "--if-revision", "0")).code == 0
    ran = await mesh("rule-update", "-f", file, "--if-revision", "0")
    assert (ran.code, ran.err) == (1, "a8ctl: the rules are at revision 1, not at 0\n")


async def test_undone_unless_confirmed(mesh: Real, file: str) -> None:
    ran = await mesh("rule-create", "-f", file, "--confirm-within", "30s")
    assert (ran.code, json.loads(ran.out)) == (0, {"ids": ["a"]})
    assert "unless: a8ctl confirm 1\n" in ran.err
    assert (await mesh("confirm", "1")).out == "Confirmed revision 1, as revision 2.\n"
    assert (await mesh("confirm", "1")).code == 1


@pytest.mark.parametrize(
    "flags",
    [("--wait", "--timeout", "soon"), ("--confirm-within", "0"), ("--if-revision", "x"), ("--timeout",)],
)
async def test_terms_that_cannot_be(a8ctl: Cli, file: str, flags: tuple[str, ...]) -> None:
    ran = await a8ctl("rule-create", "-f", file, *flags)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert a8ctl.server.seen == []


async def test_without_terms_requests_are_what_they_were(a8ctl: Cli, file: str) -> None:
    a8ctl.server.answers[("POST", "/v1/rules")] = {"ids": ["a"]}
    assert (await a8ctl("rule-create", "-f", file)).code == 0
    assert a8ctl.server.seen[0].query == []
