"""The state folder: one sidecar each, and an id that stays."""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.sidecar import state


def test_the_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    with state.held(tmp_path / "a" / "b") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_second_sidecar_is_refused_by_name(tmp_path: Path) -> None:
    with state.held(tmp_path):
        words = r"state_dir: .* in use by another sidecar \(process \d+\)"
        with pytest.raises(InvalidSetting, match=words), state.held(tmp_path):
            pass
    with state.held(tmp_path):
        pass


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from amalgam8.sidecar import state\n"
        "with state.held(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InvalidSetting, match=f"process {other.pid}"), state.held(tmp_path):
            pass
        other.kill()
        other.wait()
        with state.held(tmp_path):
            pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = "cannot be written: Not a directory"
    with pytest.raises(InvalidSetting, match=words), state.held(tmp_path / "file" / "below"):
        pass


def test_the_id_stays(tmp_path: Path) -> None:
    first = state.identity(tmp_path)
    assert str(uuid.UUID(first)) == first
    assert state.identity(tmp_path) == first


def test_an_unreadable_id_is_replaced(tmp_path: Path) -> None:
    (tmp_path / state.ID_FILE).write_text("no id\n")
    first = state.identity(tmp_path)
    assert state.identity(tmp_path) == first


def test_an_id_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="cannot be written"):
        state.identity(tmp_path / "missing")
