"""Words for OpenAPI documents."""

import msgspec

from amalgam8.web.openapi import EMPTY, an_object, for_tenants, operation, ref, text, whole


def test_a_body_brings_its_refusals_and_tenants_their_header() -> None:
    found = operation("Do.", {200: EMPTY}, {400: "no", 408: "no", 413: "no", 415: "no"}, 400, body=text())
    assert sorted(found["responses"]) == ["200", "400", "408", "413", "415"]
    assert found["requestBody"]["content"] == {"application/json": {"schema": {"type": "string"}}}
    assert found["responses"]["400"]["content"]["application/json"]["schema"] == ref("Error")
    whose = for_tenants(found)
    assert [one["name"] for one in whose["parameters"]] == ["A8-Namespace"]
    assert whose["security"] == [{}, {"token": []}]


def test_a_whole_document() -> None:
    found = msgspec.json.decode(whole("Ours", "1.2", {"/": {}}, {"Error": an_object(("a",), a=text())}))
    assert (found["openapi"], found["info"]["title"], found["info"]["version"]) == ("3.1.0", "Ours", "1.2")
    assert found["components"]["schemas"]["Error"]["required"] == ["a"]
