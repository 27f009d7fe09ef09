"""What controllers on one Kubernetes share beside the rules: who they are together, and who the sidecars are.

A Secret holds the epoch and the secret behind sidecars' keys; the first controller makes it. A ConfigMap
holds the sidecars, so that a restart forgets none. Refuses to go on without the Secret.
"""

import base64
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from amalgam8.catalogs.kubernetes.connect import Connection
from amalgam8.clients.http import Answer
from amalgam8.controller.kubernetes_objects import key_of
from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import StoreUnavailable
from amalgam8.model.stored import check_form

IDENTITY = "amalgam8-controller"
SIDECARS = "amalgam8-sidecars"
FORM = 1
"""Number of the form in which all is kept; a controller refuses one that is higher than its own."""


class Identity:
    """The epoch and the secret of all controllers in ``namespace``."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._path = f"/api/v1/namespaces/{namespace}/secrets"

    async def read(self) -> tuple[str, bytes]:
        """Read them, or make them; raises as the connection does.

        Raises:
            StoreUnavailable: the Secret is another one's, or of a newer version.
        """
        made = {
            "epoch": uuid.uuid4().hex[:16].encode(),
            "secret": secrets.token_bytes(32),
            "form": str(FORM).encode(),
        }
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": IDENTITY},
            "data": {name: base64.b64encode(value).decode() for name, value in made.items()},
        }
        answer = await self._connection.send("POST", self._path, body, expect=(409,))
        if answer.status == 409:
            answer = await self._connection.send("GET", f"{self._path}/{IDENTITY}")
        return _read(answer)

    async def renew(self, known: str) -> str:
        """Begin another epoch than ``known``, unless another controller has; raises as ``read``."""
        epoch, _ = await self.read()
        if epoch == known:
            data = {"epoch": base64.b64encode(uuid.uuid4().hex[:16].encode()).decode()}
            await self._connection.send("PATCH", f"{self._path}/{IDENTITY}", {"data": data}, merge=True)
            epoch, _ = await self.read()
        return epoch


def _read(answer: Answer) -> tuple[str, bytes]:
    try:
        data = answer.json()["data"]
        parts = (base64.b64decode(data[name], validate=True) for name in ("epoch", "secret", "form"))
        epoch, secret, form = parts
        found = epoch.decode("ascii"), secret
        number = int(form)
    except (KeyError, TypeError, ValueError):
        raise StoreUnavailable(f"the Secret {IDENTITY} is not one of a controller") from None
    check_form(number, FORM, we="this controller")
    return found


class _Kept(msgspec.Struct, frozen=True):
    tenant: str
    id: str
    service: str
    tags: tuple[str, ...] = ()


class Roster:
    """The sidecars that were there when this controller began."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._tenants: dict[str, dict[str, Caller]] = {}

    def of(self, tenant: str) -> Mapping[str, Caller]:
        return self._tenants.get(tenant, {})

    async def read(self) -> None:
        """Read them; raises as the connection does."""
        answer = await self._connection.send("GET", f"{self._path}/{SIDECARS}", expect=(404,))
        if answer.status == 404:
            return
        data: Any = answer.json().get("data") or {}
        for text in data.values():
            try:
                one = msgspec.json.decode(text, type=_Kept)
            except msgspec.DecodeError:
                continue  # nobody of ours wrote it
            self._tenants.setdefault(one.tenant, {})[one.id] = caller(one.service, one.tags)

    async def remember(self, tenant: str, news: Mapping[str, Caller | None]) -> None:
        """Keep what is new, forget what is None; raises as the connection does."""
        data = {
            f"{key_of(tenant)}.{identity}": None
            if who is None
            else msgspec.json.encode(_Kept(tenant, identity, who.service, who.tags)).decode()
            for identity, who in news.items()
        }
        path = f"{self._path}/{SIDECARS}"
        answer = await self._connection.send("PATCH", path, {"data": data}, expect=(404,), merge=True)
        if answer.status == 404:
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": SIDECARS},
                "data": {name: text for name, text in data.items() if text is not None},
            }
            answer = await self._connection.send("POST", self._path, body, expect=(409,))
            if answer.status == 409:
                await self._connection.send("PATCH", path, {"data": data}, merge=True)
