"""One Eureka server as its clients see it: where it is, who we are there, documents from it and to it.

Wire format: Eureka's REST API, version 2. User and password may stand in the URL, and are sent as basic
authentication; at another registry of ours a token stands in the path. Refuses to skip the check of
certificates, and to show any of these.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from amalgam8.catalogs.eureka_document import Applications, decode, read_applications
from amalgam8.clients.http import Answer, Http
from amalgam8.model.errors import BadAnswer, InvalidSetting

_ACCEPT = {
    "json": "application/json, application/xml;q=0.5",
    "xml": "application/xml, application/json;q=0.5",
}
_TOKEN = re.compile(r"/eureka/[^/]*/v2$")


def trusting(ca_file: str, setting_name: str) -> ssl.SSLContext:
    """A context that checks certificates against ``ca_file``, or the system's authorities.

    Raises:
        InvalidSetting: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSetting(f"{setting_name}: {ca_file} cannot be used: {error.strerror}") from None


class Link:
    """The server at ``url``; ``form`` is what to ask for first. ``timeout`` (s) bounds each answer."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        username: str = "",
        password: str = "",
        form: str = "json",
        connections: int = 2,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        where = parts.netloc.rpartition("@")[2]
        base = urlunsplit((parts.scheme, where, parts.path, "", "")).rstrip("/")
        self.url = _TOKEN.sub("/eureka/…/v2", base)
        """To be shown."""
        self._http = Http(base, timeout=timeout, connections=connections, tls=tls, name=self.url)
        user = unquote(parts.username or "") or username
        secret = unquote(parts.password or "") or password
        self._headers = {"Accept": _ACCEPT[form]}
        if user:
            token = base64.b64encode(f"{user}:{secret}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    async def get(self, path: str) -> Applications:
        """The document of several applications at this path.

        Raises:
            Unavailable, Refusal: it did not answer, or not with such a document.
        """
        answer = await self._http.request("GET", path, headers=self._headers)
        if answer.status != 200:
            raise BadAnswer(f"it answered with status {answer.status}")
        # Large documents take a while: in a thread of their own, so that nobody else waits for them.
        return await asyncio.to_thread(lambda: read_applications(decode(answer.body)))

    async def ask(self, method: str, path: str, body: Any = None, *, expect: Sequence[int] = ()) -> Answer:
        """One request about one instance; ``body`` becomes JSON.

        Raises:
            Unavailable, Refusal: no answer, or a status of 400 or above that is not in ``expect``.
        """
        return await self._http.request(method, path, body, headers=self._headers, expect=expect)

    async def close(self) -> None:
        await self._http.close()
