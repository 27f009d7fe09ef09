"""Logs for people and for machines."""

import json
import logging
from collections.abc import Iterator

import pytest

from amalgam8.runtime import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("amalgam8").setLevel(logging.NOTSET)


def test_text_is_one_line_with_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logs.Log("part").info("it began", port=80, name="a b", empty="", odd='x"y\n')
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.endswith('info    it began port=80 name="a b" empty="" odd="x\\"y\\n"\n')


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.Log("part").warning("it ended", port=80, ok=True, none=None, error=ValueError("x\ny"))
    entry = json.loads(capsys.readouterr().err)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning",
        "event": "it ended",
        "port": 80,
        "ok": True,
        "none": None,
        "error": "x\ny",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_long_values_are_cut(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", form)
    logs.Log("part").info("said", value="x" * 100_000)
    assert len(capsys.readouterr().err) < 3000


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "text")
    log = logs.Log("part")
    log.debug("one")
    log.info("two")
    log.warning("three")
    log.error("four")
    logging.getLogger("foreign.library").info("five")
    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == ["three", "four"]
    assert logs.LEVEL.read("WARN") == "warning"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_written_where_it_is_given(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", form)
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        logs.Log("part").error("failed", exc_info=error)
    written = capsys.readouterr().err
    assert "RuntimeError: broken" in written
    assert "Traceback" in written


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logs.configure("info", "text")
    logs.Log("part").info("once")
    assert capsys.readouterr().err.count("once") == 1
