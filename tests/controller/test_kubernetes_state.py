"""What controllers on one Kubernetes share beside the rules."""

from collections.abc import AsyncIterator

import pytest

from amalgam8.catalogs.kubernetes.connect import Connection, by_url
from amalgam8.controller.kubernetes_state import IDENTITY, SIDECARS, Identity, Roster
from amalgam8.model.caller import caller
from amalgam8.model.errors import StoreUnavailable
from tests.controller.kubernetes_cluster import NAMESPACE, KubernetesKit, kubernetes_kit


@pytest.fixture
async def kit() -> AsyncIterator[KubernetesKit]:
    async with kubernetes_kit() as kit:
        yield kit


@pytest.fixture
async def connection(kit: KubernetesKit) -> AsyncIterator[Connection]:
    found = Connection(by_url(f"http://127.0.0.1:{kit.port}"))
    yield found
    await found.close()


async def test_the_first_makes_the_identity_and_the_others_have_it(connection: Connection) -> None:
    first = await Identity(connection, NAMESPACE).read()
    assert await Identity(connection, NAMESPACE).read() == first
    epoch, secret = first
    assert len(secret) == 32
    renewed = await Identity(connection, NAMESPACE).renew(epoch)
    assert renewed != epoch
    assert await Identity(connection, NAMESPACE).renew(epoch) == renewed, "another one has done it"
    assert (await Identity(connection, NAMESPACE).read())[1] == secret


@pytest.mark.parametrize("data", [{}, {"epoch": "!", "secret": "!"}, {"epoch": "YQ=="}])
async def test_a_secret_of_another_program_is_refused(
    kit: KubernetesKit, connection: Connection, data: dict[str, str]
) -> None:
    kit.cluster.put("secrets", {"metadata": {"name": IDENTITY, "namespace": NAMESPACE}, "data": data})
    with pytest.raises(StoreUnavailable, match=IDENTITY):
        await Identity(connection, NAMESPACE).read()


async def test_what_a_newer_version_wrote_is_refused(kit: KubernetesKit, connection: Connection) -> None:
    await Identity(connection, NAMESPACE).read()
    kit.cluster.objects["secrets"][NAMESPACE, IDENTITY]["data"]["form"] = "Mg=="  # 2
    with pytest.raises(StoreUnavailable, match=r"form 2; this one knows 1\): upgrade this controller"):
        await Identity(connection, NAMESPACE).read()


async def test_sidecars_are_kept_and_forgotten(kit: KubernetesKit, connection: Connection) -> None:
    roster = Roster(connection, NAMESPACE)
    await roster.read()
    assert roster.of("default") == {}
    await roster.remember("default", {"gone": None, "s": caller("web", ["v1"])})
    await roster.remember("Üshop", {"s": caller("web")})
    kit.cluster.objects["configmaps"][NAMESPACE, SIDECARS]["data"]["theirs"] = "no JSON"
    later = Roster(connection, NAMESPACE)
    await later.read()
    assert later.of("default") == {"s": caller("web", ["v1"])}
    assert later.of("Üshop") == {"s": caller("web")}
    await roster.remember("default", {"s": None})
    last = Roster(connection, NAMESPACE)
    await last.read()
    assert last.of("default") == {}
