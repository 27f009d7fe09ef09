"""The names of the document: every one that is used is there."""

import re

import msgspec

from amalgam8.controller.openapi import PATHS
from amalgam8.controller.openapi_schemas import SCHEMAS


def test_every_reference_resolves_and_every_schema_is_used() -> None:
    used = set(re.findall(r"#/components/schemas/([\w-]+)", msgspec.json.encode((PATHS, SCHEMAS)).decode()))
    assert used == set(SCHEMAS)
