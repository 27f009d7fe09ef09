"""The controller as a process: durability under kill -9, an orderly end, and refusals to start."""

import asyncio
import contextlib
import random
import signal
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Http
from amalgam8.clients.watch import Lost
from amalgam8.model.caller import caller
from amalgam8.model.errors import Unreachable
from amalgam8.model.report import PlanStamp, SidecarReport
from amalgam8.model.stream import Hello
from amalgam8.routing.plan import DestinationPlan, PlanDelta, PlanSnapshot
from tests.conftest import eventually, free_port
from tests.controller.process import controller, spawn
from tests.controller.rules import document

State = dict[str, str]
"""What the rules say: description by id."""


class Writer:
    """Writes one change after another and knows what was acknowledged."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.acknowledged: State = {}
        self.under_way: State = {}
        self.revision = 0
        self.count = 0

    async def write(self, client: ControllerClient) -> None:
        """One create, update or delete; afterwards ``under_way`` is the state that it leads to."""
        number = f"{self.count}"
        self.under_way = dict(self.acknowledged)
        choice = self.random.random() if self.acknowledged else 0
        if choice < 0.5:
            name = f"rule-{uuid.UUID(int=self.random.getrandbits(128))}"
            self.under_way[name] = number
            await client.create([document(id=name, description=number)])
        else:
            name = self.random.choice(sorted(self.acknowledged))
            if choice < 0.8:
                self.under_way[name] = number
                await client.update([document(id=name, description=number)])
            else:
                del self.under_way[name]
                await client.delete(ids=[name])
        self.acknowledged = self.under_way
        self.revision += 1
        self.count += 1


@pytest.mark.timeout(180)
async def test_kill_minus_nine_at_any_moment_of_100_writes(tmp_path: Path) -> None:
    writer, kills, port = Writer(seed=8), 0, free_port()
    parts: dict[str, DestinationPlan] = {}
    http = Http(f"http://127.0.0.1:{port}")
    client = ControllerClient(http)
    watch = client.watch_plan(str(uuid.uuid4()), caller("web"))
    seen: list[Any] = []

    async def follow() -> None:
        async for event in watch.events():
            seen.append(event)
            if isinstance(event, PlanSnapshot):
                parts.clear()
                parts.update(event.destinations)
            elif isinstance(event, PlanDelta):
                parts.update(event.changed)
                for name in event.removed:
                    parts.pop(name, None)

    following = asyncio.create_task(follow())
    try:
        while writer.count < 100:
            async with controller(tmp_path / "controller.db", port) as process:
                rules = await client.rules()
                state = {rule["id"]: rule["description"] for rule in rules.rules}
                assert state in (writer.acknowledged, writer.under_way)
                assert rules.revision in (writer.revision, writer.revision + 1)
                writer.acknowledged, writer.revision = state, rules.revision
                for _ in range(writer.random.randint(0, 20)):
                    await writer.write(client)
                # From here on at any moment, within a write or between two.
                asyncio.get_running_loop().call_later(
                    writer.random.uniform(0.0, 0.006), process.signal, signal.SIGKILL
                )
                with contextlib.suppress(Unreachable):
                    while True:
                        await writer.write(client)
                kills += 1
        async with controller(tmp_path / "controller.db", port):
            rules = await client.rules()
            state = {rule["id"]: rule["description"] for rule in rules.rules}
            assert state in (writer.acknowledged, writer.under_way)
            wanted = [rule["id"] for rule in rules.rules]

            async def caught_up() -> bool:
                routes = parts["reviews"].routes if "reviews" in parts else ()
                return [entry.rule for entry in routes] == wanted

            await eventually(caught_up, within=20)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await http.close()
    epochs = {event.epoch for event in seen if isinstance(event, Hello)}
    assert len(epochs) == 1
    revisions = [event.revision for event in seen if isinstance(event, (PlanSnapshot, PlanDelta))]
    assert revisions == sorted(revisions)
    assert kills >= 3
    # Having resumed each time, it needed the whole Plan once only.
    assert sum(isinstance(event, PlanSnapshot) for event in seen) == 1


async def test_a_confirmed_change_survives_kill_minus_nine(tmp_path: Path) -> None:
    """Nobody confirmed it while no controller ran: the next one undoes it. What was confirmed stays."""
    port = free_port()
    http = Http(f"http://127.0.0.1:{port}")

    async def put(path: str, version: str) -> None:
        body = {"rules": [document(id="a", version=version), document(id=version, version=version)]}
        await http.request("PUT", path, body)

    async def versions() -> State:
        rules = (await ControllerClient(http).rules()).rules
        return {rule["id"]: rule["route"]["backends"][0]["tags"][0] for rule in rules}

    async with controller(tmp_path / "c.db", port) as process:
        await put("/v1/apply?confirm_within=600", "v1")
        await http.request("POST", "/v1/confirm", {"revision": 1})
        await put("/v1/apply?confirm_within=5s", "v2")
        assert await versions() == {"a": "v2", "v2": "v2"}
        process.signal(signal.SIGKILL)
    async with controller(tmp_path / "c.db", port):

        async def undone() -> bool:
            return await versions() == {"a": "v1", "v1": "v1"}

        await eventually(undone, within=20)
        history = (await http.request("GET", "/v1/history")).json()
        assert [one["cause"] for one in history["revisions"]] == ["revert", "apply", "confirm", "apply"]
    await http.close()


async def test_a_restart_expects_the_sidecars_that_were_there(tmp_path: Path) -> None:
    """A rule is not called applied everywhere just because nobody has come back yet."""
    port, identity = free_port(), str(uuid.uuid4())
    http = Http(f"http://127.0.0.1:{port}")
    client = ControllerClient(http)

    async def state() -> list[tuple[str, str]]:
        found = (await http.request("GET", "/v1/rules/a/status")).json()
        return [(one["id"], one["state"]) for one in found["sidecars"]]

    async with controller(tmp_path / "c.db", port) as process:
        await client.create([document(id="a")])
        events = client.watch_plan(identity, caller("web")).events()
        hello, plan = await anext(events), await anext(events)
        assert isinstance(hello, Hello)
        assert isinstance(plan, PlanSnapshot)
        report = SidecarReport(hello.key, "web", plan=PlanStamp(plan.revision, plan.hash))
        await client.report(identity, report)
        assert await state() == [(identity, "applied")]

        async def stored() -> bool:
            return identity.encode() in (tmp_path / "c.db-wal").read_bytes()

        await eventually(stored)
        process.signal(signal.SIGKILL)
        await events.aclose()
    async with controller(tmp_path / "c.db", port):
        assert await state() == [(identity, "pending")]
        answer = await http.request("DELETE", "/v1/rules?wait=0.1")
        assert answer.json()["missing"][0]["id"] == identity
        await client.create([document(id="a")])
        await client.report(identity, report)
        found = (await http.request("GET", "/v1/sidecars")).json()["sidecars"]
        assert [one["id"] for one in found] == [identity]
    await http.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_orderly_end_with_streams_open(number: signal.Signals, tmp_path: Path) -> None:
    async with controller(tmp_path / "controller.db") as process:
        http = Http(f"http://127.0.0.1:{process.port}")
        client = ControllerClient(http)
        await client.create([document(id="a")])
        watches = [client.watch_plan(str(uuid.uuid4()), caller(f"app-{i}")) for i in range(5)]
        events = [watch.events() for watch in watches]
        for stream in events:
            assert isinstance(await anext(stream), Hello)
            assert isinstance(await anext(stream), PlanSnapshot)
        process.signal(number)
        assert await process.ended() == 0
        for stream in events:
            assert isinstance(await anext(stream), Lost)
            await stream.aclose()
        await http.close()
        assert "Traceback" not in "".join(process.output)
    # Nothing is left to recover: the end was orderly.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["controller.db"]


async def refusal(**settings: object) -> str:
    process = await spawn(**{"api_port": 0, **settings})
    assert await process.ended(within=30) == 2
    text = "".join(process.output)
    assert text.count("\n") == 1
    assert text.startswith("a8controller: ")
    return text


async def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        text = await refusal(api_port=port, database_path=tmp_path / "c.db")
    assert text == f"a8controller: api_port: port {port} on 127.0.0.1 is already taken\n"
    assert list(tmp_path.iterdir()) == []


async def test_a_database_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(b"not rules" * 1000)
    text = await refusal(database_path=path)
    assert text.startswith(f"a8controller: database_path: {path} is not a database")
    assert path.read_bytes() == b"not rules" * 1000


async def test_a_folder_that_cannot_be_written() -> None:
    text = await refusal(database_path="/proc/none/c.db")
    assert text.startswith("a8controller: database_path: /proc/none/c.db cannot be used: ")


async def test_a_database_in_use(tmp_path: Path) -> None:
    async with controller(tmp_path / "c.db"):
        text = await refusal(database_path=tmp_path / "c.db")
    assert "is in use by another controller" in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"database_type": "redis"}, "A8_DATABASE_TYPE: 'redis' is not allowed"),
        ({"auth_mode": "jwt", "jwt_secret": "s3cret"}, "jwt_secret: (not shown) is shorter than 32 bytes"),
        ({"auth_mode": "jwt"}, "auth_mode: jwt needs a key"),
        ({"tls_cert": "/no/such"}, "tls_key: missing, and tls_cert needs it"),
        ({"api_port": "http"}, "A8_API_PORT: 'http' is not allowed"),
    ],
)
async def test_settings_that_are_refused(settings: dict[str, str], words: str) -> None:
    text = await refusal(**settings)
    assert words in text
    assert "s3cret" not in text


async def test_memory_leaves_nothing(tmp_path: Path) -> None:
    async with controller(tmp_path / "c.db", database_type="memory") as process:
        http = Http(f"http://127.0.0.1:{process.port}")
        await ControllerClient(http).create([document(id="a", ttl=0.5), document(id="b")])

        async def lapsed() -> bool:
            return [rule["id"] for rule in (await ControllerClient(http).rules()).rules] == ["b"]

        await eventually(lapsed)
        await http.close()
    assert list(tmp_path.iterdir()) == []
