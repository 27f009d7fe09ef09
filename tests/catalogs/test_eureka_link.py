"""One Eureka server: documents from it, requests to it, and what it is told of us."""

import base64
from pathlib import Path

import pytest

from amalgam8.catalogs.eureka_link import Link, trusting
from amalgam8.clients.http import Refusal
from amalgam8.model.errors import BadAnswer, InvalidSetting, Unreachable
from tests.catalogs.eureka_server import EurekaServer, document
from tests.conftest import free_port
from tests.wire import served


@pytest.mark.parametrize("form", ["json", "xml"])
async def test_documents_are_read_whatever_their_form(form: str) -> None:
    server = EurekaServer()
    server.add(document("A", "x", 80))
    async with served(server.app) as port:
        link = Link(f"http://127.0.0.1:{port}/eureka/", timeout=5, form=form)
        try:
            found = await link.get("/apps")
        finally:
            await link.close()
    assert (found.hashcode, [one["instanceId"] for one in found.instances]) == ("UP_1_", ["x"])
    assert server.accepted[0].startswith(f"application/{form}")
    assert link.url == f"http://127.0.0.1:{port}/eureka"


@pytest.mark.parametrize(
    ("url", "more", "sent"),
    [
        ("http://u%40x:p%2Fw@{}", {}, "u@x:p/w"),
        ("http://{}", {"username": "u", "password": "p"}, "u:p"),
        ("http://u@{}", {"username": "v", "password": "p"}, "u:p"),
    ],
)
async def test_who_we_are(url: str, more: dict[str, str], sent: str) -> None:
    server = EurekaServer()
    server.login = sent
    async with served(server.app) as port:
        link = Link(url.format(f"127.0.0.1:{port}/eureka"), timeout=5, **more)  # type: ignore[arg-type]
        try:
            assert (await link.ask("GET", "/apps")).status == 200
            server.login = "another"
            with pytest.raises(Refusal) as caught:
                await link.get("/apps")
        finally:
            await link.close()
    assert caught.value.status == 401
    assert sent not in repr(caught.value)
    assert base64.b64encode(sent.encode()).decode() not in repr(caught.value)
    assert "@" not in link.url


async def test_a_token_in_the_path_is_not_shown() -> None:
    url = f"http://127.0.0.1:{free_port()}/api/eureka/hush.hush/v2"
    link = Link(url + "/", timeout=5)
    with pytest.raises(Unreachable) as caught:
        await link.get("/apps")
    await link.close()
    assert "hush" not in str(caught.value) + link.url
    assert "/api/eureka/…/v2 cannot be reached" in str(caught.value)


async def test_no_answer_and_no_document() -> None:
    server = EurekaServer()
    server.body = b"nonsense"
    async with served(server.app) as port:
        link = Link(f"http://127.0.0.1:{port}/eureka", timeout=5)
        with pytest.raises(BadAnswer, match="no JSON object"):
            await link.get("/apps")
        await link.close()
    link = Link(f"http://127.0.0.1:{free_port()}", timeout=5)
    with pytest.raises(Unreachable):
        await link.ask("PUT", "/apps/A/x", expect=[404])
    await link.close()


def test_authorities_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "no.crt").write_text("nonsense")
    for path in (tmp_path / "no.crt", tmp_path / "absent"):
        with pytest.raises(InvalidSetting, match=f"where: {path} cannot be used"):
            trusting(str(path), "where")
