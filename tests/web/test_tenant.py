"""The tenant of a request, in open mode."""

import pytest

from amalgam8.model.errors import MalformedAuthorization, NotAuthorized
from amalgam8.web.tenant import tenant_of_header


@pytest.mark.parametrize("header", ["", "  ", "Bearer default", "bearer default", "Bearer  default "])
def test_the_default_tenant(header: str) -> None:
    assert tenant_of_header(header) == "default"


@pytest.mark.parametrize("header", ["Bearer", "Basic default", "default", "Bearer a b", "BEARER default"])
def test_malformed(header: str) -> None:
    with pytest.raises(MalformedAuthorization):
        tenant_of_header(header)


@pytest.mark.parametrize("header", ["Bearer x", "Bearer DEFAULT", "Bearer \xe9", "Bearer admin"])
def test_tokens_that_nobody_gave_out(header: str) -> None:
    with pytest.raises(NotAuthorized) as caught:
        tenant_of_header(header)
    assert caught.value.code == "auth_not_authorized"
    assert header.split()[1] not in str(caught.value)
