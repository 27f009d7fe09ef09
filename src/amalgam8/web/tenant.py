"""Which tenant a request is for, from its bearer token.

Open mode, the only one so far: no token, or the token ``default``, means the tenant ``default``. Refuses
every other token, so that a client that believes to be somebody is not served as somebody else.
"""

import hmac

from starlette.requests import Request

from amalgam8.model.errors import MalformedAuthorization, NotAuthorized

DEFAULT = "default"


def tenant_of(request: Request) -> str:
    """The tenant of the request's ``Authorization`` header; remembered in ``request.state.tenant``.

    Raises:
        MalformedAuthorization, NotAuthorized: see tenant_of_header.
    """
    tenant = tenant_of_header(request.headers.get("authorization", ""))
    request.state.tenant = tenant
    return tenant


def tenant_of_header(authorization: str) -> str:
    """The tenant that the value of an ``Authorization`` header stands for; empty: there was none.

    Raises:
        MalformedAuthorization: not ``Bearer <token>``.
        NotAuthorized: a token that nobody gave out.
    """
    if not authorization.strip():
        return DEFAULT
    scheme, *rest = authorization.split()
    if scheme not in ("Bearer", "bearer") or len(rest) != 1:
        raise MalformedAuthorization("the header Authorization must be 'Bearer' and one token")
    if not hmac.compare_digest(rest[0].encode(), DEFAULT.encode()):
        raise NotAuthorized("this token is not known here; leave it out, or send 'default'")
    return DEFAULT
