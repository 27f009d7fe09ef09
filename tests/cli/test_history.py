"""history, rollback, export and import against a real controller."""

import json
from pathlib import Path

import pytest

from tests.cli.real import Real, real
from tests.controller.rules import delay, document


async def three_revisions(mesh: Real) -> None:
    client = mesh.controller.client
    await client.create([document(id="a"), document(id="b")])
    await client.update([document(id="a", version="v2")])
    await client.delete(ids=["b"])


async def test_history_is_a_table_newest_first(mesh: Real) -> None:
    await three_revisions(mesh)
    ran = await mesh("history")
    rows = [line.split("|") for line in ran.out.splitlines() if line.startswith("|")]
    assert [row[1].strip() for row in rows] == ["Revision", "3", "2", "1"]
    assert [row[5].strip() for row in rows[1:]] == ["-b", "~a", "+2"]
    found = json.loads((await mesh("history", "-n", "1", "-o", "json")).out)
    assert [one["revision"] for one in found] == [3]


async def test_more_than_a_page(mesh: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    await three_revisions(mesh)
    monkeypatch.setattr("amalgam8.cli.history.PAGE", 1)
    found = json.loads((await mesh("history", "-o", "json")).out)
    assert [one["revision"] for one in found] == [3, 2, 1]


async def test_one_revision_with_its_difference(mesh: Real) -> None:
    await three_revisions(mesh)
    ran = await mesh("history-show", "2")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].endswith(": replace")
    assert "~ a (reviews): route" in lines
    assert [line for line in lines if line.endswith(("- v1", "- v2"))] == [
        "    -     - v1",
        "    +     - v2",
    ]
    assert json.loads((await mesh("history-show", "2", "-o", "json")).out)["difference"][0]["id"] == "a"
    assert (await mesh("history-show", "9")).code == 1


async def test_rollback(mesh: Real) -> None:
    await three_revisions(mesh)
    ran = await mesh("rollback", "1", "--comment", "v2 was bad", "--wait")
    assert ran.code == 0
    assert ran.out == "Rolled back to revision 1 as revision 4: 1 created, 1 updated, 0 removed.\n"
    assert await mesh.rules() == {"a": "v1", "b": "v1"}
    assert (await mesh("history-show", "4")).out.splitlines()[0].endswith("rollback of 1")
    assert (await mesh("rollback", "99")).code == 1
    assert (await mesh("rollback", "--", "-1")).code == 2


async def test_export_and_import(mesh: Real, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    await three_revisions(mesh)
    await mesh.controller.client.create([delay(id="f")])
    file = tmp_path / "rules.json"
    assert (await mesh("export", str(file))).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["rules.json"]
    assert json.loads((await mesh("export")).out) == json.loads(file.read_text())
    async with real(capsys) as other:
        assert (await other("import", str(file))).out == "Imported.\n"
        assert await other.rules() == {"a": "v2", "f": "fault"}
        assert (await other("history", "-o", "json")).out == (await mesh("history", "-o", "json")).out
        ran = await other("import", str(file))
        assert (ran.code, "at revision 4" in ran.err) == (1, True)
    assert (await mesh("import", str(tmp_path / "none.json"))).code == 2
    assert (await mesh("export", str(tmp_path / "no" / "folder.json"))).code == 1
