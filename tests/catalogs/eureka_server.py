"""A stand-in for a Eureka server: real sockets, Eureka's own documents, and a will of the test's own.

It has no leases and no replication. Documents are written out here and not by the code under test, so that
both cannot be wrong in the same way.
"""

import base64
from typing import Any
from xml.sax.saxutils import escape

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.catalogs.contract import Services

Document = dict[str, Any]


def document(app: str, key: str, port: int, *, host: str = "", status: str = "UP", **more: Any) -> Document:
    """An instance as Netflix' server lists it."""
    return {
        "instanceId": key,
        "hostName": host or "127.0.0.1",
        "app": app.upper(),
        "ipAddr": "127.0.0.1",
        "status": status,
        "overriddenStatus": "UNKNOWN",
        "port": {"$": port, "@enabled": "true"},
        "securePort": {"$": 443, "@enabled": "false"},
        "countryId": 1,
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
            "name": "MyOwn",
        },
        "leaseInfo": {
            "renewalIntervalInSecs": 30,
            "durationInSecs": 90,
            "registrationTimestamp": 1795503604000,
            "lastRenewalTimestamp": 1795503634000,
            "evictionTimestamp": 0,
            "serviceUpTimestamp": 1795503604000,
        },
        "metadata": {"@class": "java.util.Collections$EmptyMap"},
        "homePageUrl": f"http://127.0.0.1:{port}/",
        "vipAddress": app.lower(),
        "isCoordinatingDiscoveryServer": "false",
        "lastUpdatedTimestamp": "1795503604000",
        "lastDirtyTimestamp": "1795503603000",
        "actionType": "ADDED",
        **more,
    }


class EurekaServer:
    """``known`` is by application and id; ``asked`` lists the paths asked for.

    ``refuse`` is a status for everything, ``no_delta`` one for deltas; ``wrong_hash`` stands in deltas in
    place of the right one; ``xml_only`` ignores what is asked for; ``login`` is ``user:password``.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Document] = {}
        self.recent: list[Document] = []
        self.version = 1
        self.asked: list[str] = []
        self.accepted: list[str] = []
        self.refuse = 0
        self.no_delta = 0
        self.wrong_hash = ""
        self.xml_only = False
        self.login = ""
        self.body: bytes | None = None
        self.app = Starlette(
            routes=[Route("/eureka/apps", self._apps), Route("/eureka/apps/delta", self._delta)]
        )

    def add(self, *documents: Document) -> None:
        for one in documents:
            key = (one["app"], one["instanceId"])
            action = "MODIFIED" if key in self.known else "ADDED"
            self.known[key] = {**one, "actionType": action}
            self._changed(self.known[key])

    def remove(self, app: str, key: str) -> None:
        one = self.known.pop((app.upper(), key))
        self._changed({**one, "actionType": "DELETED"})

    def put(self, services: Services) -> None:
        """Exactly these."""
        wanted = {
            (service.upper(), f"127.0.0.1:{service}:{value.rpartition(':')[2]}"): value
            for service, values in services.items()
            for value in values
        }
        for app, key in [*self.known]:
            if (app, key) not in wanted:
                self.remove(app, key)
        for (app, key), value in wanted.items():
            if (app, key) not in self.known:
                self.add(document(app, key, int(value.rpartition(":")[2])))

    def deltas(self) -> int:
        return self.asked.count("/eureka/apps/delta")

    def fulls(self) -> int:
        return self.asked.count("/eureka/apps")

    def _changed(self, one: Document) -> None:
        self.version += 1
        self.recent = [*self.recent[-40:], one]

    async def _apps(self, request: Request) -> Response:
        return self._answer(request, list(self.known.values()))

    async def _delta(self, request: Request) -> Response:
        if self.no_delta:
            self.asked.append(request.url.path)
            return Response(status_code=self.no_delta)
        return self._answer(request, self.recent, self.wrong_hash)

    def _answer(self, request: Request, documents: list[Document], wrong: str = "") -> Response:
        self.asked.append(request.url.path)
        self.accepted.append(request.headers.get("accept", ""))
        given = request.headers.get("authorization", "")
        if self.login and given != "Basic " + base64.b64encode(self.login.encode()).decode():
            return Response(status_code=401)
        if self.refuse:
            return Response(status_code=self.refuse)
        if self.body is not None:
            return Response(self.body)
        counts: dict[str, int] = {}
        for one in self.known.values():
            counts[one["status"]] = counts.get(one["status"], 0) + 1
        code = wrong or "".join(f"{status}_{count}_" for status, count in sorted(counts.items()))
        by_app: dict[str, list[Document]] = {}
        for one in documents:
            by_app.setdefault(one["app"], []).append(one)
        if self.xml_only or request.headers["accept"].startswith("application/xml"):
            return Response(_xml(by_app, self.version, code), media_type="application/xml")
        # As Netflix' server does it: a single application is no list.
        applications: list[Document] = [{"name": app, "instance": some} for app, some in by_app.items()]
        body = {
            "versions__delta": str(self.version),
            "apps__hashcode": code,
            "application": applications[0] if len(applications) == 1 else applications,
        }
        return Response(msgspec.json.encode({"applications": body}), media_type="application/json")


def _xml(by_app: dict[str, list[Document]], version: int, code: str) -> str:
    inner = "".join(
        f"<application><name>{app}</name>{''.join(_instance(one) for one in some)}</application>"
        for app, some in by_app.items()
    )
    return (
        f"<applications>\n  <versions__delta>{version}</versions__delta>\n"
        f"  <apps__hashcode>{code}</apps__hashcode>\n  {inner}\n</applications>"
    )


def _instance(one: Document) -> str:
    parts = []
    for name, value in one.items():
        if name in ("port", "securePort"):
            parts.append(f'<{name} enabled="{value["@enabled"]}">{value["$"]}</{name}>')
        elif isinstance(value, dict):
            kind = f' class="{value["@class"]}"' if "@class" in value else ""
            members = "".join(
                f"<{key}>{escape(str(member))}</{key}>" for key, member in value.items() if key != "@class"
            )
            parts.append(f"<{name}{kind}>{members}</{name}>")
        else:
            parts.append(f"<{name}>{escape(str(value))}</{name}>")
    return f"<instance>{''.join(parts)}</instance>"
