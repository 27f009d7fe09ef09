import pytest

from amalgam8.catalogs.eureka_document import PUBLISHED_KEY
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.registry.catalogued import Listed
from amalgam8.registry.eureka_answer import document_of, wants_xml
from amalgam8.registry.lease import Lease


@pytest.mark.parametrize(
    ("accept", "xml", "otherwise"),
    [
        ("", False, True),
        ("*/*", False, True),
        ("application/json", False, False),
        ("application/xml", True, True),
        ("text/xml, */*;q=0.1", True, True),
        ("application/json, application/xml;q=0.5", False, False),
        ("application/json;q=0.2, application/xml;q=0.5", True, True),
        ("application/xml;q=x, application/json;q=0.1", False, False),
        ("application/xml;q=0", False, True),
    ],
)
def test_what_is_asked_for(accept: str, xml: bool, otherwise: bool) -> None:
    assert wants_xml(accept, otherwise=False) is xml
    assert wants_xml(accept, otherwise=True) is otherwise


def test_what_comes_from_a_eureka_is_not_passed_on_to_the_next() -> None:
    """What is registered here, by either API, and what another catalogue has, may be."""
    endpoint = Endpoint("tcp", "h:1")
    eureka, other = Instance("a:x", "A", endpoint), Instance("uid-80", "a", endpoint)
    assert document_of(Listed("default", eureka))["metadata"] == {PUBLISHED_KEY: "true"}
    for lease in (Listed("default", other), Lease("default", eureka, 0, 0), Lease("default", other, 0, 0)):
        assert document_of(lease)["metadata"] == {}
