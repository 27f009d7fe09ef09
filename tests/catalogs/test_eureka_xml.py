"""Eureka's XML: the same shape as its JSON, both ways; document types, depth and noise are refused."""

import contextlib
from typing import Any
from xml.etree import ElementTree as Tree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.catalogs.eureka_xml import DEPTH_LIMIT, from_xml, to_xml
from amalgam8.model.errors import BadAnswer

INSTANCE = b"""<?xml version="1.0"?>
<instance>
  <instanceId>h1:reviews:9080</instanceId>
  <hostName>h1</hostName><app>REVIEWS</app>
  <port enabled="true"> 9080 </port>
  <securePort enabled="false">443</securePort>
  <dataCenterInfo class="com.netflix.appinfo.AmazonInfo">
    <name>Amazon</name><metadata><instance-id>i-1</instance-id></metadata>
  </dataCenterInfo>
  <leaseInfo><durationInSecs>90</durationInSecs></leaseInfo>
  <metadata><amalgam8.tags>v1,a&amp;b</amalgam8.tags><instance>mine</instance><empty/></metadata>
  <homePageUrl/>
</instance>"""

SHAPE: dict[str, Any] = {
    "instance": {
        "instanceId": "h1:reviews:9080",
        "hostName": "h1",
        "app": "REVIEWS",
        "port": {"@enabled": "true", "$": "9080"},
        "securePort": {"@enabled": "false", "$": "443"},
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.AmazonInfo",
            "name": "Amazon",
            "metadata": {"instance-id": "i-1"},
        },
        "leaseInfo": {"durationInSecs": "90"},
        "metadata": {"amalgam8.tags": "v1,a&b", "instance": "mine", "empty": ""},
        "homePageUrl": "",
    }
}


def test_xml_has_the_shape_of_json() -> None:
    assert from_xml(INSTANCE) == SHAPE


def test_what_is_written_is_read_again() -> None:
    assert from_xml(to_xml(SHAPE)) == SHAPE


def test_applications_and_instances_are_always_lists() -> None:
    text = b"<applications><application><name>A</name><instance/></application></applications>"
    assert from_xml(text) == {"applications": {"application": [{"name": "A", "instance": [{}]}]}}
    assert from_xml(b"<applications/>") == {"applications": {}}


BOMB = b"""<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<instance><hostName>&b;</hostName></instance>"""
OUTSIDE = b"""<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/passwd">]><instance><hostName>&file;</hostName></instance>"""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (BOMB, "declares a document type"),
        (OUTSIDE, "declares a document type"),
        (b"<!DOCTYPE instance SYSTEM 'http://127.0.0.1/x.dtd'><instance/>", "declares a document type"),
        (b"<instance>&file;</instance>", "line 1, column 11: no XML: undefined entity"),
        (b"<a>" * (DEPTH_LIMIT + 1), "nested deeper"),
        (b"<instance>", "no XML"),
        (b"", "no XML"),
        (b"<a></b>", "no XML"),
        (b"<instance/>rest", "no XML"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "no XML|encoding"),
        (b"<a>\xff</a>", "no XML"),
    ],
)
def test_what_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(BadAnswer, match=said):
        from_xml(data)


def test_other_encodings_are_understood() -> None:
    text = '<?xml version="1.0" encoding="UTF-16"?><instance><hostName>é</hostName></instance>'
    assert from_xml(text.encode("utf-16")) == {"instance": {"hostName": "é"}}


def test_values_are_written_as_eureka_does() -> None:
    shown = to_xml(
        {"instance": {"countryId": 1, "flag": True, "none": None, "odd key": "x", "text": "a<b&c\x00"}}
    )
    tree = Tree.fromstring(shown.decode().partition("?>")[2])  # noqa: S314
    assert {one.tag: one.text for one in tree} == {
        "countryId": "1",
        "flag": "true",
        "none": None,
        "text": "a<b&c\ufffd",
    }


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,8}", fullmatch=True)


@given(st.dictionaries(NAMES, st.text()))
def test_any_metadata_comes_back_but_for_white_space_around_it(metadata: dict[str, str]) -> None:
    found = from_xml(to_xml({"instance": {"metadata": metadata}}))["instance"]["metadata"]
    assert found.keys() == metadata.keys()
    for key, value in metadata.items():
        if value.isprintable():
            assert found[key] == value.strip()


@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        assert isinstance(from_xml(data), dict)
