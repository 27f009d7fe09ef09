"""fault-list and fault-stop against a real controller."""

import json

import pytest

from tests.cli.real import Real
from tests.controller.rules import delay, document


async def test_list_and_stop(mesh: Real) -> None:
    client = mesh.controller.client
    abort = {"destination": "details", "actions": [{"action": "abort", "return_code": 503}], "ttl": 0}
    await client.create([document(id="r"), delay(id="slow"), {**abort, "id": "broken"}, delay(id="slower")])
    ran = await mesh("fault-list")
    assert ran.code == 0
    rows = [[cell.strip() for cell in line.split("|")] for line in ran.out.splitlines() if line[0] == "|"]
    assert [row[6] for row in rows] == ["Rule ID", "broken", "slow", "slower"]
    assert (rows[1][4], rows[1][5]) == ("(1->abort=503)", "never")
    assert rows[2][5].startswith("20")
    found = json.loads((await mesh("fault-list", "-d", "ratings", "-o", "json")).out)
    assert [rule["id"] for rule in found] == ["slow", "slower"]

    assert (await mesh("fault-stop", "slow")).out == "Stopped 1 fault rule.\n"
    ran = await mesh("fault-stop", "slow")
    assert (ran.code, ran.err) == (1, "a8ctl: there is no fault rule slow\n")
    assert (await mesh("fault-stop", "r")).code == 1
    assert (await mesh("fault-stop", "-d", "details")).out == "Stopped 1 fault rule.\n"
    assert (await mesh("fault-stop", "--all", "--wait")).out == "Stopped 1 fault rule.\n"
    assert (await mesh("fault-stop", "--all")).out == "Stopped 0 fault rules.\n"
    assert await mesh.rules() == {"r": "v1"}


@pytest.mark.parametrize("flags", [(), ("x", "--all"), ("--all", "-d", "ratings")])
async def test_which_ones_must_be_said(mesh: Real, flags: tuple[str, ...]) -> None:
    ran = await mesh("fault-stop", *flags)
    assert ran.code == 2
    assert "say which faults" in ran.err
