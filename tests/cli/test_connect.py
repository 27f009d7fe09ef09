import shlex

import pytest

from amalgam8.cli.connect import Target, curl
from amalgam8.model.errors import InvalidSetting


def test_check_makes_urls_normal() -> None:
    target = Target("http://a:1/ ", "t", "https://b/x/", "").check()
    assert (target.controller_url, target.registry_url) == ("http://a:1", "https://b/x")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (Target(controller_url="localhost"), "A8_CONTROLLER_URL"),
        (Target(registry_url="http://"), "A8_REGISTRY_URL"),
        (Target(registry_url="http://a:99999"), "A8_REGISTRY_URL"),
        (Target(controller_token="a b"), "A8_CONTROLLER_TOKEN"),
        (Target(registry_token="a\n"), "A8_REGISTRY_TOKEN"),
    ],
)
def test_check_names_what_is_wrong(target: Target, named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        target.check()


def test_curl_survives_a_shell() -> None:
    line = curl("PUT", "http://a/v1/rules", {"a": "it's $HOME"}, [("id", "x&y")], "A8_CONTROLLER_TOKEN")
    assert shlex.split(line) == [
        *("curl", "-X", "PUT", "http://a/v1/rules?id=x%26y"),
        *("-H", "Authorization: Bearer $A8_CONTROLLER_TOKEN"),
        *("-H", "Content-Type: application/json", "--data", '{"a":"it\'s $HOME"}'),
    ]
