"""Records of traced calls are read back from the file that nginx writes."""

from pathlib import Path

from amalgam8.routing.plan import PlanTrace, TraceEntry
from amalgam8.sidecar.nginx.records import traced
from tests.conftest import eventually
from tests.sidecar.nginx.support import backends, running, simple


async def test_traced_calls_alone(tmp_path: Path) -> None:
    entry = TraceEntry(rule="t", traces=(PlanTrace("recipe", "7"),))
    async with running(tmp_path, access_log=tmp_path / "a.log") as mesh, backends("one") as (one,):
        await mesh.follow(simple("plain", one.peer()), simple("traced", one.peer(), traces=(entry,)))
        await mesh.ask("/plain/x")
        await mesh.ask("/traced/x", ("user-agent", 'a"b\\'))

        async def written() -> bool:
            return bool(mesh.nginx.traces())

        await eventually(written)
        (record,) = mesh.nginx.traces()
        assert (record["recipe"], record["rules"], record["user_agent"]) == ("7", ["t"], 'a"b\\')


def test_no_file_no_traces(tmp_path: Path) -> None:
    assert traced(tmp_path / "none") == []
