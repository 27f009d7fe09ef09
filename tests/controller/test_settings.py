"""The controller's settings: defaults, and what is refused with a sentence."""

from pathlib import Path

import pytest

from amalgam8.controller.settings import REFUSED, ControllerSettings
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.settings import load


def loaded(*argv: str, **environ: str) -> ControllerSettings:
    return load(ControllerSettings, "a8controller", argv, environ, refused=REFUSED)[0]


def test_defaults_are_safe() -> None:
    found = loaded()
    assert (found.listen_host, found.api_port) == ("127.0.0.1", 8080)
    assert (found.database_type, found.database_path.name) == ("sqlite", "controller.db")
    assert (found.fault_ttl, found.auth_mode) == (3600.0, ("none",))


def test_flags_and_environment() -> None:
    found = loaded(
        "--database-type", "memory", "--fault_ttl=5m", A8_DATABASE_PATH="/x/y.db", A8_API_PORT="31200"
    )
    assert (found.database_type, found.fault_ttl) == ("memory", 300.0)
    assert (found.database_path, found.api_port) == (Path("/x/y.db"), 31200)


def test_variables_of_others_are_ignored() -> None:
    assert loaded(A8_SERVICE="reviews:v1", A8_CONTROLLER_URL="http://x") == loaded()


@pytest.mark.parametrize("name", REFUSED)
def test_known_and_not_built(name: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"A8_{name.upper()}: {name} is not supported yet"):
        loaded(**{f"A8_{name.upper()}": "something"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("database_type", "redis", "redis is not supported yet"),
        ("database_type", "kubernetes", "kubernetes is not supported yet"),
        ("database_type", "postgres", "sqlite or memory"),
        ("auth_mode", "oauth", "none, trusted, jwt, or several"),
        ("api_port", "70000", "a port from 1 to 65535"),
        ("fault_ttl", "0", "a duration from 1s"),
        ("database_path", "", "a path"),
        ("log_level", "loud", "debug"),
    ],
)
def test_wrong_values_name_setting_value_and_what_is_allowed(name: str, value: str, words: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        loaded(**{f"A8_{name.upper()}": value})
    assert f"A8_{name.upper()}: {value!r} is not allowed" in str(caught.value)
    assert words in str(caught.value)
