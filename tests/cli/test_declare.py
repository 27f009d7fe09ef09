"""apply and diff against a real controller."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from amalgam8.cli.declare import files_at, read
from amalgam8.model.caller import caller
from amalgam8.model.errors import InvalidInput
from tests.cli.real import Real
from tests.controller.rules import document


def folder(path: Path, **files: Any) -> str:
    """A folder with a YAML file for each of ``files``."""
    for name, rules in files.items():
        file = path / f"{name.replace('__', '/')}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(rules))
    return str(path)


async def test_apply_and_diff(mesh: Real, tmp_path: Path) -> None:
    await mesh.controller.client.create([document(id="a"), document(id="gone")])
    identity = await mesh.sidecar(caller("web", ["v1"]))
    given = folder(tmp_path, one=document(id="a", version="v2"), deep__two=[document("ratings", id="new")])
    ran = await mesh("diff", "-f", given)
    assert (ran.code, ran.err) == (1, "a8ctl: 2 rules differ\n")
    assert "+ new (ratings)" in ran.out
    assert "~ a (reviews): route" in ran.out
    assert "- gone" not in ran.out
    assert f"would touch web:v1 (ratings, reviews) {identity}" in ran.out
    assert "- gone (reviews)" in (await mesh("diff", "-f", given, "--prune")).out
    ran = await mesh("apply", "-f", given, "--prune", "--dry-run")
    assert (ran.code, "- gone (reviews)" in ran.out) == (0, True)
    assert await mesh.rules() == {"a": "v1", "gone": "v1"}
    ran = await mesh("apply", "-f", given)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "Applied as revision 2.")
    assert await mesh.rules() == {"a": "v2", "gone": "v1", "new": "v1"}
    ran = await mesh("apply", "-f", given, "--prune", "--wait", "--timeout", "100ms")
    assert (ran.code, identity in ran.err) == (4, True)
    assert await mesh.rules() == {"a": "v2", "new": "v1"}
    ran = await mesh("diff", "-f", given, "--prune")
    assert (ran.code, ran.out) == (0, "nothing differs\n")


async def test_a_label_bounds_what_is_pruned(mesh: Real, tmp_path: Path) -> None:
    await mesh.controller.client.create([document(id="theirs"), document(id="old", tags=["t"])])
    given = folder(tmp_path, mine=document(id="mine", tags=["t"]))
    assert (await mesh("apply", "-f", given, "--tag", "t", "--prune")).code == 0
    assert await mesh.rules() == {"theirs": "v1", "mine": "v1"}
    assert (await mesh("apply", "-f", given, "--tag", "u")).code == 1


async def test_as_json(mesh: Real, tmp_path: Path) -> None:
    given = folder(tmp_path, a=document(id="a"))
    found = json.loads((await mesh("diff", "-f", given, "-o", "json")).out)
    assert [step["change"] for step in found["difference"]] == ["create"]
    assert found["sidecars"] == []


def test_what_a_path_stands_for(tmp_path: Path) -> None:
    given = folder(tmp_path, b=1, a=1, deep__c=1)
    (tmp_path / ".hidden.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert [Path(file).name for file in files_at(given)] == ["a.yaml", "b.yaml", "c.yaml"]
    assert files_at("-") == ["-"]


def test_no_rule_without_an_id_and_no_id_twice(tmp_path: Path) -> None:
    given = folder(tmp_path, a=[document(id="x"), document()])
    with pytest.raises(InvalidInput, match=r"a.yaml: rule 2 has no id"):
        read([given])
    given = folder(tmp_path, a=[document(id="x")], b=[document(id="x")])
    with pytest.raises(InvalidInput, match=r"b.yaml: the id x is in .*a.yaml too"):
        read([given])


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"holds no \.yaml"):
        read([str(tmp_path)])
