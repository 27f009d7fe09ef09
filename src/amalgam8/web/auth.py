"""Which tenant a request is for: a chain of authenticators over its bearer token.

Each authenticator names the tenant, says that it does not know this kind of token (then the next one is
asked), or refuses, which is final. The tenant ``admin`` is nobody's: whoever is it says in the header
``A8-Namespace`` for which tenant the request is. Refuses tokens that nobody recognises, and names of
tenants that could not be shown in a log or a label.
"""

import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.requests import Request

from amalgam8.model.caller import tenant_problem
from amalgam8.model.errors import (
    MalformedAuthorization,
    MissingAuthorization,
    MissingNamespace,
    NotAuthorized,
    TooManyTenants,
)
from amalgam8.web.exchange import Asked

DEFAULT = "default"
ADMIN = "admin"
NAMESPACE_HEADER = "A8-Namespace"
TENANTS_LIMIT = 10_000
"""Tenants that one process serves: each costs memory and series of metrics."""


class Authenticator(Protocol):
    """One kind of token."""

    def authenticate(self, token: str) -> str | None:
        """The tenant of the token (empty: none was sent), or None if it is of another kind.

        Raises:
            NotAuthorized: it is of this kind, and not good.
        """


class Open:
    """Mode ``none``: no token, or ``default``, is the tenant ``default``."""

    def authenticate(self, token: str) -> str | None:
        return DEFAULT if not token or hmac.compare_digest(token.encode(), DEFAULT.encode()) else None


class Trusted:
    """Mode ``trusted``: the token is the tenant's name. ``admin``: whether it may be ``admin``."""

    def __init__(self, *, admin: bool) -> None:
        self._admin = admin

    def authenticate(self, token: str) -> str | None:
        if not token:
            raise MissingAuthorization("a token is needed: send 'Authorization: Bearer <tenant>'")
        if hmac.compare_digest(token.encode(), ADMIN.encode()) and not self._admin:
            raise NotAuthorized(
                "without proof nobody is admin on an address that others reach; see the setting trusted_admin"
            )
        return token


class Auth:
    """The chain. Everything that a server serves to a tenant asks it first."""

    def __init__(self, chain: Sequence[Authenticator] = (), tenants_limit: int = TENANTS_LIMIT) -> None:
        self._chain = tuple(chain) or (Open(),)
        self._private = any(not isinstance(one, Open) for one in self._chain)
        self._limit = tenants_limit
        self._tenants: set[str] = set() if self._private else {DEFAULT}

    def tenant_of(self, request: Request, token: str = "") -> str:
        """The tenant that the request is for; remembered in ``request.state.tenant``.

        ``token`` counts where there is no header ``Authorization``.

        Raises:
            MalformedAuthorization: the header is not ``Bearer <token>``.
            MissingAuthorization, NotAuthorized: no good token.
            MissingNamespace: an admin's request that does not say for whom it is.
            TooManyTenants: a tenant more than this process serves.
        """
        tenant = self.tenant(request.headers, token)
        request.state.tenant = tenant
        return tenant

    def whose(self, asked: Asked) -> str:
        """``tenant_of`` for what is asked of a plain route; remembered in ``asked.tenant``."""
        if self._private or "authorization" in asked.headers:
            asked.tenant = self.tenant(asked.headers)
        else:
            asked.tenant = DEFAULT  # as ``Open`` says, and nobody else is there to be asked
        return asked.tenant

    def tenant(self, headers: Mapping[str, str], token: str = "") -> str:
        """The same from headers alone, whose names are lower-case or match in any case."""
        tenant = self.resolve(bearer(headers.get("authorization", "")) or token)
        if tenant == ADMIN:
            tenant = headers.get(NAMESPACE_HEADER.lower(), "").strip()
            if not tenant:
                raise MissingNamespace(
                    f"an admin must say for which tenant: set the header {NAMESPACE_HEADER}"
                )
            if (problem := tenant_problem(tenant)) is not None:
                raise MissingNamespace(f"{NAMESPACE_HEADER} {problem}")
        if tenant not in self._tenants:
            if len(self._tenants) >= self._limit:
                raise TooManyTenants(f"there are {self._limit} tenants, and no room for more")
            self._tenants.add(tenant)
        return tenant

    def sees(self, headers: Mapping[str, str]) -> str | None:
        """Whose figures may be seen with these headers: one tenant's, "" for nobody's, None for everybody's.

        For what is no tenant's own, such as ``/metrics``. Raises as ``tenant_of`` for a token that is
        not good.
        """
        if not self._private:
            return None
        token = bearer(headers.get("authorization", ""))
        if not token:
            return ""
        tenant = self.resolve(token)
        return None if tenant == ADMIN else tenant

    def resolve(self, token: str) -> str:
        """The tenant of a token, or ``admin``. Raises MissingAuthorization or NotAuthorized."""
        for authenticator in self._chain:
            tenant = authenticator.authenticate(token)
            if tenant is None:
                continue
            # Those that are served have been looked at before.
            if tenant not in self._tenants and (problem := tenant_problem(tenant)) is not None:
                raise NotAuthorized(f"the tenant's name {problem}")
            return tenant
        if self._private:
            raise NotAuthorized("this token is not known here")
        raise NotAuthorized("this token is not known here; leave it out, or send 'default'")


def bearer(authorization: str) -> str:
    """The token in the value of an ``Authorization`` header; empty: there is none.

    Raises:
        MalformedAuthorization: not ``Bearer <token>``.
    """
    if not authorization or not authorization.strip():
        return ""
    scheme, *rest = authorization.split()
    if scheme not in ("Bearer", "bearer") or len(rest) != 1:
        raise MalformedAuthorization("the header Authorization must be 'Bearer' and one token")
    return rest[0]


def on_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
