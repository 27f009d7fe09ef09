"""The file of contexts: who can read it, what may stand in it, and where it is."""

from pathlib import Path

import pytest

from amalgam8.cli import context_file
from amalgam8.cli.context_file import Contexts
from amalgam8.cli.main import main
from amalgam8.model.errors import InvalidSetting

A = "http://a.example:1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "a8" / "config.yaml"


def put(*flags: str) -> None:
    assert main(["context-set", "one", *flags]) == 0


def test_a_file_that_others_can_read_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("--controller-url", A)
    file.chmod(0o644)
    assert context_file.chosen("")["controller_url"] == A  # no token in it
    file.chmod(0o600)
    put("--controller-token", "geheim")
    file.chmod(0o640)
    assert main(["rule-get"]) == 2
    shown = capsys.readouterr().err
    assert f"chmod 600 {file}" in shown
    assert "geheim" not in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("contexts: [", "line 2, column 1"),
        ("- a", "something else than current and contexts"),
        ("context: {}", "something else than current and contexts"),
        (
            "contexts: {one: {controler-url: x}}",
            "one: controler-url: unknown member; allowed are controller-url",
        ),
        ("contexts: {one: {controller-url: 7}}", "one: controller-url: expected text"),
        ("contexts: {one: x}", "one: expected members"),
        ("current: two\ncontexts: {one: {}}", "current: 'two' is none of its contexts"),
    ],
)
def test_a_file_that_says_something_else(
    file: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert main(["info"]) == 2
    assert words in capsys.readouterr().err


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for base in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", base)
        assert context_file.path() == tmp_path / ".config" / "a8" / "config.yaml"


def test_a_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/nothing")
    with pytest.raises(InvalidSetting, match="cannot write /proc/nothing"):
        context_file.write(Contexts())
