import pytest

from amalgam8.registry.eureka_answer import wants_xml


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
