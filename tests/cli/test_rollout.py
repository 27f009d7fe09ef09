"""rollout and its like, against a real controller and a stand-in registry."""

import asyncio
import json

import msgspec
import pytest

from amalgam8.controller.rollout import Rollout, State
from tests.cli.real import Real
from tests.cli.standin import StandIn
from tests.cli.test_traffic import Shift, shift
from tests.conftest import eventually

__all__ = ["shift"]  # a fixture


async def turn(mesh: Real, state: State, text: str) -> Rollout:
    """End the newest rollout, as the driver would."""
    tenant = await mesh.controller.tenants.get("default")
    found = (await mesh.controller.rollouts.all(tenant))[0]
    ended = found.went("2030-01-01T00:10:00Z", text, state=state, ended="2030-01-01T00:10:00Z", reason=text)
    await mesh.controller.rollouts._store.put("default", ended)
    return ended


async def test_start_and_see_it_from_every_side(shift: Shift) -> None:
    ran = await shift(
        *("rollout", "reviews", "v2", "--steps", "10,100", "--interval", "90s", "--max-errors", "2%"),
        *("--max-p99", "500ms", "--min-requests", "7", "--detach", "--author", "ann"),
    )
    assert ran.code == 0
    identity = ran.out.strip()
    found = json.loads((await shift("rollout-show", "reviews", "-o", "json")).out)
    assert found["id"] == identity
    assert (found["steps"], found["interval"], found["max_errors"]) == ([10, 100], 90, 0.02)
    assert (found["max_p99"], found["min_requests"], found["author"]) == (0.5, 7, "ann")
    listed = await shift("rollout-list")
    assert [cell.strip() for cell in listed.out.splitlines()[3].split("|")[1:5]] == [
        "reviews",
        "v2",
        "running",
        "10 %",
    ]
    ran = await shift("rollout-show", identity)
    assert ran.out.splitlines()[0] == (
        "reviews: v1 → v2, running at 10 %; steps 10,100 of 90s, at most 2 % errors, p99 500.0 ms,"
        " 7 calls at least"
    )
    assert "started, from v1" in ran.out
    assert (await shift("rollout-pause", "reviews")).out == f"{identity} is paused.\n"
    assert (await shift("rollout-resume", identity)).out == f"{identity} is resumed.\n"
    assert (await shift("rollout-abort", "reviews")).out == f"{identity} is aborted.\n"


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        ("done", 0, ""),
        ("failed", 1, "failed: too bad; all calls go to the old version"),
        ("aborted", 1, "aborted: too bad; all calls go to the old version"),
        ("inconclusive", 3, "too bad; all calls go to the old version"),
    ],
)
async def test_watching_ends_as_the_rollout_does(shift: Shift, state: State, code: int, words: str) -> None:
    running = asyncio.create_task(shift("rollout", "reviews", "v2"))
    await eventually(shift.mesh.controller.client.rollouts)
    await turn(shift.mesh, state, "too bad")
    ran = await running
    assert ran.code == code, ran.err
    assert [line.split("  ")[1] for line in ran.out.splitlines()] == ["started, from v1", "too bad"]
    assert words in ran.err
    assert "to stop it: a8ctl rollout-abort reviews-" in ran.err
    assert (await shift("rollout-watch", "reviews")).code == code


async def test_how_it_is_going(shift: Shift) -> None:
    await shift("rollout", "reviews", "v2", "--detach")
    await shift.mesh.controller.rollouts.look()
    ran = await shift("rollout-show", "reviews")
    assert ran.out.splitlines()[1].startswith("5 %: waiting for sidecars")
    for _ in range(2):
        await shift.mesh.controller.rollouts.look()
    ran = await shift("rollout-show", "reviews")
    assert ran.out.splitlines()[1] == (
        "5 %: 0 s; new 0 calls, 0.00 % errors, p99 -; old 0 calls, 0.00 % errors, p99 -"
    )


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("rollout", "reviews", "v9"), 1, "reviews has no instance of version v9"),
        (("rollout", "reviews", " , "), 2, "name a version"),
        (("rollout", "reviews", "v2", "--steps", "5,x"), 2, "--steps: 'x' is not allowed"),
        (("rollout", "reviews", "v2", "--steps", "5,10"), 1, "the last must be 100"),
        (("rollout", "reviews", "v2", "--interval", "soon"), 2, "--interval: 'soon' is not allowed"),
        (("rollout", "reviews", "v2", "--max-errors", "101%"), 2, "--max-errors: '101%' is not allowed"),
        (("rollout", "reviews", "v2", "--max-p99", "2h"), 2, "--max-p99: '2h' is not allowed"),
        (("rollout-pause", "nothing"), 1, "there is no rollout nothing"),
    ],
)
async def test_what_is_refused(shift: Shift, argv: tuple[str, ...], code: int, words: str) -> None:
    ran = await shift(*argv)
    assert words in ran.err
    assert ran.code == code


async def test_a_server_cannot_control_the_terminal(mesh: Real, server: StandIn) -> None:
    shown = Shift(mesh, server)
    await mesh.controller.client.create(
        [{"id": "d", "destination": "reviews", "route": {"backends": [{"tags": ["v1"]}]}}]
    )
    await shown("rollout", "reviews", "v2", "--detach")
    ended = await turn(mesh, "failed", "\x1b[2J")
    assert msgspec.json.encode(ended)
    assert "\x1b" not in (await shown("rollout-watch", "reviews")).out
    assert "\x1b" not in (await shown("rollout-show", "reviews")).out
