"""``/-/traces``: the newest records of traced calls, from a real sidecar, whatever becomes of its log."""

from pathlib import Path
from typing import Any

import pytest

from amalgam8.sidecar.envoy.recorder import RING
from tests.conftest import eventually
from tests.e2e.mesh import Mesh, Sidecar, mesh

pytestmark = pytest.mark.timeout(240)


async def traces(sidecar: Sidecar) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await sidecar.admin.request("GET", "/-/traces")).json()["traces"]
    return found


def traced(running: Mesh, value: str, **members: Any) -> dict[str, Any]:
    """A rule that traces calls to v1 of reviews."""
    trace = {"action": "trace", "log_key": "test_run", "log_value": value, "tags": ["v1"]}
    return {"id": "traced", "destination": "reviews", "actions": [trace], **members}


async def test_the_ring_has_traced_calls_alone_and_the_newest_of_them(tmp_path: Path) -> None:
    async with mesh(tmp_path) as running:
        await running.add("reviews:v1")
        web = await running.add("web:beta", backend=False, settings={"A8_ACCESS_LOG": "off"})
        await running.ready()
        assert await web.version("/reviews/before") == "v1"
        for_user = traced(running, "one", match={"headers": {"X-User": "jason"}})
        await running.rules.create([for_user])
        await running.ready()
        assert await traces(web) == []
        assert await web.version("/reviews/other", {"X-User": "anna"}) == "v1"
        for number in range(3):
            assert await web.version(f"/reviews/{number}", {"X-User": "jason"}) == "v1"

        async def come() -> list[dict[str, Any]]:
            found = await traces(web)
            return found if len(found) == 3 else []

        found = await eventually(come, what="three records")
        assert [record["path"] for record in found] == [f"/reviews/{number}" for number in range(3)]
        for record in found:
            assert record["test_run"] == "one"
            assert record["src"] == "web:beta"
            assert record["dst"] == "reviews:v1"
            assert (record["status"], record["method"]) == ("200", "GET")
            assert "traced" in record["rules"]

        # More than the ring holds: the oldest go, and a rule that changed gives the new value.
        await running.rules.update([traced(running, "two")])
        await running.ready()
        for number in range(RING + 2):
            assert await web.version(f"/reviews/more-{number}") == "v1"

        async def full() -> bool:
            found = await traces(web)
            return bool(found) and found[-1]["path"] == f"/reviews/more-{RING + 1}"

        await eventually(full, within=20)
        found = await traces(web)
        assert [record["path"] for record in found] == [
            f"/reviews/more-{number}" for number in range(2, RING + 2)
        ]
        assert {record["test_run"] for record in found} == {"two"}
        assert not list((tmp_path / web.name).glob("access.log*"))
