"""The setting of TCP proxies, what they need to know, and what is said about rules."""

import asyncio
import logging
from pathlib import Path

import pytest

from amalgam8.model.errors import InvalidSetting
from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import FaultEntry, PlanDelay
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.settings import load
from amalgam8.sidecar.proxy import Desired
from amalgam8.sidecar.settings import REFUSED, Settings, checked
from amalgam8.sidecar.tcp import PROXIES_LIMIT, TCP_PROXIES, Connections, TcpProxy, pins
from tests.sidecar.envoy.support import service, simple

PROXY = ("--proxy", "--registry-url=http://localhost:1", "--controller-url=http://localhost:2")


def read(*argv: str) -> tuple[TcpProxy, ...]:
    settings, _ = load(Settings, "a8sidecar", (*PROXY, *argv), {}, refused=REFUSED)
    return checked(settings, ()).tcp_proxies


def test_ports_services_and_tags() -> None:
    db = TcpProxy(7000, "db")
    tagged = TcpProxy(7001, "cache", ("blue", "version=v1"))
    for argv in (
        ["--tcp-proxies=7000=db,7001=cache:version=v1,blue"],
        ["--tcp-proxies=7000=db 7001=cache:version=v1,blue"],
        ["--tcp-proxies=7000=db", "--tcp-proxies", "7001=cache:version=v1,blue"],
    ):
        assert read(*argv) == (db, tagged)
    assert read() == ()
    assert TCP_PROXIES.read(TCP_PROXIES.show((db, tagged))) == (db, tagged)


def test_the_form_of_the_original_file(tmp_path: Path) -> None:
    file = tmp_path / "a8.yaml"
    file.write_text(
        "proxy_config:\n  tcp_proxies:\n"
        "    - {service: 'tcphelloworld:version=v1', listener_port: 7000}\n"
        "    - {service: db, listener_port: 7001}\n"
    )
    found = read("--config", str(file))
    assert found == (TcpProxy(7000, "tcphelloworld", ("version=v1",)), TcpProxy(7001, "db"))
    file.write_text("tcp_proxies:\n  - {service: db}\n")
    with pytest.raises(InvalidSetting, match="tcp_proxies: each entry has service and listener_port"):
        read("--config", str(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7000", "PORT=SERVICE"),
        ("db=7000", "PORT=SERVICE"),
        ("0=db", "0 is no port"),
        ("70000=db", "70000 is no port"),
        ("7000=", "PORT=SERVICE"),
        ("7000=a/b", "holds a slash"),
        ("7000=db:,", "an empty tag"),
        ("7000=db,7000=cache", "port 7000 stands twice"),
        ("6379=db", "tcp_proxies: 6379 is http_listener_port as well"),
        ("6116=db", "tcp_proxies: 6116 is admin_port as well"),
        (",".join(f"{7000 + n}=db" for n in range(PROXIES_LIMIT + 1)), f"more than {PROXIES_LIMIT}"),
    ],
)
def test_refusals_are_one_sentence(text: str, words: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        read(f"--tcp-proxies={text}")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_proxy_they_are_refused() -> None:
    settings, _ = load(Settings, "a8sidecar", ("--tcp-proxies=7000=db",), {})
    with pytest.raises(InvalidSetting, match="tcp_proxies: without proxy"):
        checked(settings, ("true",))


def test_tags_have_to_be_known() -> None:
    proxies = (TcpProxy(1, "db"), TcpProxy(2, "db", ("v1",)), TcpProxy(3, "db", ("v2",)))
    assert pins(proxies) == {"db": (("v1",), ("v2",))}


async def test_what_does_not_apply_is_said_once_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    desired = Latest(Desired())
    connections = Connections((TcpProxy(7000, "db"), TcpProxy(7001, "nobody")), desired)
    slow = FaultEntry(rule="slow", match=ALWAYS, delays=(PlanDelay(1.0),))
    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(connections.run())
        for shares in ({"v1": 1}, {"v2": 1}, {"v1": 1}):
            routed = service("db", [(ALWAYS, shares)], {}, faults=(slow,))
            desired.set(Desired({"db": routed}))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    said = [record.getMessage() for record in caplog.records if "does not apply" in record.getMessage()]
    assert len(said) == 1
    (_, known), (_, unknown) = connections.now()
    assert known is not None
    assert [unfit.rule for unfit in known.unfit] == ["slow"]
    assert unknown is None
    desired.set(Desired({"db": simple("db")}))
    assert [found.unfit for _, found in connections.now() if found] == [()]
