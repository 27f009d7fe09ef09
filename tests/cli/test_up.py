from pathlib import Path

import pytest

from amalgam8.cli.main import main


def mesh(folder: Path) -> str:
    file = folder / "mesh.yaml"
    file.write_text("services: [{service: a, command: 'true'}]")
    return str(file)


def test_a_state_folder_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["up", "-f", mesh(tmp_path), "--state-dir", str(tmp_path / "file")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"a8ctl: --state-dir: {tmp_path / 'file'} cannot be used: ")
    assert shown.count("\n") == 1


def test_a_mesh_that_is_not_there_or_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "-f", str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "mesh.yaml").write_text("services: [{service: a, comand: x}]")
    before = set(tmp_path.iterdir())
    assert main(["up", "-f", str(tmp_path / "mesh.yaml"), "--state-dir", str(tmp_path / "state")]) == 2
    shown = capsys.readouterr().err
    assert "$.services[0].comand: unknown member; did you mean command?" in shown
    assert shown.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


def test_a_mesh_or_a_demo_but_not_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "-f", mesh(tmp_path), "--demo", "bookinfo"]) == 2
    assert "one of them" in capsys.readouterr().err
