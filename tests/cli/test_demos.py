from pathlib import Path

import pytest

from amalgam8.cli import demos
from amalgam8.cli.demos import Demo
from amalgam8.cli.documents import read_rules
from amalgam8.cli.mesh import read_mesh


@pytest.mark.parametrize("demo", list(Demo))
def test_every_demo_has_a_mesh_and_the_rules_of_its_story(demo: Demo) -> None:
    folder = demos.folder(demo)
    services = [app.service for app in read_mesh(folder / "mesh.yaml").apps]
    assert demos.PAGE[demo].split("/")[0] in services
    assert set(demos.RULES[demo]) == {file.stem for file in (folder / "rules").iterdir()}
    for name in demos.RULES[demo]:
        assert read_rules(str(folder / "rules" / f"{name}.yaml"))


def test_next_steps_name_files_relative_to_where_one_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(demos.folder(Demo.BOOKINFO))
    steps = demos.next_steps(Demo.BOOKINFO, ["productpage"], 32000, 31200)
    assert "  http://localhost:32000/productpage/productpage   in a browser\n" in steps
    assert "  a8ctl rule-create -f rules/all-v1.yaml\n" in steps
    assert steps.index("all-v1") < steps.index("jason-v2") < steps.index("delay.yaml") < steps.index("split")
    assert "  # What if ratings were slow?\n" in steps
    monkeypatch.chdir(tmp_path)
    steps = demos.next_steps(Demo.BOOKINFO, ["productpage"], 1, 2)
    file = demos.folder(Demo.BOOKINFO) / "rules" / "all-v1.yaml"
    assert f"a8ctl --controller-url http://localhost:2 rule-create -f {file}" in steps


def test_next_steps_of_any_mesh() -> None:
    assert "curl http://localhost:32000/web/" in demos.next_steps(None, ["web"], 32000, 31200)
