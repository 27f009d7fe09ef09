"""Choosing catalogues: names, options, entry points, and no secret in any message."""

import dataclasses
import sys
from pathlib import Path

import pytest

from amalgam8.catalogs.loader import BUILT_IN, Choice, choices, open_catalogs, parse_choice, read_options
from amalgam8.model.errors import InvalidSetting
from amalgam8.runtime.kinds import TEXT, URL, whole
from amalgam8.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Sample:
    url: str = setting(..., "Where.", URL)
    token: str = setting("", "A secret.", URL, secret=True)
    count: int = setting(3, "How many.", whole(1, 9))
    text: str = setting("", "Anything.", TEXT)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("kubernetes", "kubernetes", {}),
        (" consul? ", "consul", {}),
        ("a?url=http%3A%2F%2Fx%3Fy&b=", "a", {"url": "http://x?y", "b": ""}),
        ("a?n=1&n=2&m=3", "a", {"n": "1,2", "m": "3"}),
    ],
)
def test_a_choice_is_a_name_and_options(text: str, name: str, options: dict[str, str]) -> None:
    assert parse_choice(text) == Choice(name, options)


@pytest.mark.parametrize("text", ["", "?a=b", "a?b", "a?b=1&secret"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse_choice(text)
    assert "secret" not in str(caught.value)


def test_a_choice_shows_no_option() -> None:
    assert "secret" not in repr(parse_choice("a?token=secret"))


def test_the_settings_of_the_original_choose_catalogues() -> None:
    assert choices() == []
    assert choices(
        fs_catalog="/etc/a8",
        k8s_url="https://k8s:6443",
        k8s_token="t",
        eureka_url=["http://a/eureka", "http://b/eureka"],
        catalog=["kubernetes?namespace=shop", "consul"],
    ) == [
        Choice("file", {"directory": "/etc/a8"}),
        Choice("kubernetes", {"url": "https://k8s:6443", "token": "t"}),
        Choice("eureka", {"url": "http://a/eureka,http://b/eureka"}),
        Choice("kubernetes", {"namespace": "shop"}),
        Choice("consul"),
    ]
    with pytest.raises(InvalidSetting, match="k8s_token: needs k8s_url"):
        choices(k8s_token="t")


def test_options_fill_a_dataclass() -> None:
    assert read_options(Sample, "s", {"url": "http://x", "count": "4"}) == Sample("http://x", "", 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "catalog s: url is missing; it is an http or https URL"),
        ({"url": "x"}, "catalog s: url: 'x' is not allowed"),
        (
            {"url": "http://x", "count": "10"},
            "catalog s: count: '10' is not allowed; allowed: a whole number",
        ),
        (
            {"url": "http://x", "colour": "red"},
            "catalog s: 'colour' is no option; there are url, token, count",
        ),
        ({"url": "http://x", "token": "secret"}, "catalog s: token: the value is not allowed"),
        ({"url": "http://x", "text": "\x01"}, "control character"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read_options(Sample, "s", options)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_built_in_catalogues_are_opened_in_order(tmp_path: Path) -> None:
    chosen = choices(
        fs_catalog=str(tmp_path), k8s_url="http://127.0.0.1:1", eureka_url=["http://127.0.0.1:1/eureka"]
    )
    assert [catalog.name for catalog in open_catalogs(chosen)] == ["file", "kubernetes", "eureka"]
    assert {choice.name for choice in chosen} == set(BUILT_IN)


def plug_in(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str) -> None:
    """Install a distribution with one entry point."""
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[amalgam8.catalogs]\n{name} = {where}\n")
    monkeypatch.syspath_prepend(str(directory))


def test_a_plug_in_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a8_tried_catalog.py").write_text(
        "from amalgam8.catalogs.refresh import Refresh\n"
        "async def fetch(): return {}\n"
        "def open_catalog(options): return Refresh('tried-' + options['as'], fetch)\n"
    )
    plug_in(tmp_path, monkeypatch, "tried", "a8_tried_catalog:open_catalog")
    assert "a8_tried_catalog" not in sys.modules
    (catalog,) = open_catalogs([parse_choice("tried?as=x")])
    assert catalog.name == "tried-x"


def test_a_plug_in_that_cannot_be_imported_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(tmp_path, monkeypatch, "lost", "a8_not_there:open_catalog")
    with pytest.raises(InvalidSetting, match="catalog lost: cannot be loaded"):
        open_catalogs([Choice("lost")])


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(
        InvalidSetting, match="no catalogue named 'consul'; there are eureka, file, kubernetes"
    ):
        open_catalogs([Choice("consul")])
