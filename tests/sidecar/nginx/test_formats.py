"""The formats say what they must; what nginx makes of them is shown with the records."""

from pathlib import Path

from amalgam8.sidecar.nginx.formats import formats, written


def test_there_is_a_format_for_each_kind_of_call() -> None:
    found = formats("web:v1")
    for name in ("a8_plain", "a8_more"):
        assert found.count(f"log_format {name} ") == 1


def test_traced_calls_have_a_file_of_their_own_in_any_case() -> None:
    traced = Path("/state/traced.log")
    assert written(None, traced).split()[:3] == ["access_log", str(traced), "a8_more"]
    found = written(Path("/log/a"), traced)
    assert found.count("access_log /log/a ") == 2
    assert found.count(" buffer=") == 3
