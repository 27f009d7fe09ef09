"""Two registries on one real Valkey under random writes and random trouble, held against a model.

Replicas that stop following, connections that are cut, a server that is killed amid writes: after each step
both show exactly what the model has. ``make races SECONDS=600`` (``A8_RACES_SECONDS``) goes on with other
seeds; one that fails is named.
"""

import asyncio
import os
import random
import time
from collections import Counter
from typing import Literal, NamedTuple

import msgspec
import pytest

from amalgam8.model.errors import InstanceGone, StoreUnavailable
from amalgam8.model.instance import Instance
from amalgam8.registry.redis import RedisStore
from amalgam8.registry.store import Happened
from tests.conftest import eventually
from tests.contracts.registry_store import instance
from tests.registry.redis_kit import RedisKit, redis_kit
from tests.registry.test_redis import status

SECONDS = float(os.environ.get("A8_RACES_SECONDS", "0"))
STEPS = 120
SEEDS = range(2)
PORTS = 12
AGAIN = 20
"""Connections that a registry may have, of which each may have been cut."""

Kind = Literal["register", "remove", "renew", "amend"]
KINDS: tuple[Kind, ...] = ("register", "register", "register", "remove", "renew", "amend")


class Write(NamedTuple):
    kind: Kind
    instance: Instance

    async def by(self, store: RedisStore) -> bool | None:
        """Whether there was such an instance; None: nobody knows what came of it."""
        one = self.instance
        try:
            if self.kind == "register":
                await store.register("t", one)
            elif self.kind == "remove":
                await store.remove("t", one.id)
            elif self.kind == "renew":
                await store.renew("t", one.id)
            else:
                await store.amend("t", one.id, status(one.status))
        except InstanceGone:
            return False
        except StoreUnavailable:
            return None
        return True


class Model:
    """What should be there, and when it was last renewed."""

    def __init__(self) -> None:
        self.there: dict[str, Instance] = {}
        self.renewed: dict[str, float] = {}
        self.expired: Counter[str] = Counter()

    def take(self, write: Write, now: float) -> bool:
        """What becomes of it; whether there was such an instance."""
        one = write.instance
        known = self.there.get(one.id)
        if write.kind == "register":
            self.there[one.id] = one
        elif known is None:
            return False
        elif write.kind == "remove":
            del self.there[one.id]
        elif write.kind == "amend":
            self.there[one.id] = msgspec.structs.replace(known, status=one.status)
        self.renewed[one.id] = now
        return True

    def expire(self, now: float) -> int:
        gone = [
            key
            for key, one in self.there.items()
            if one.status != "OUT_OF_SERVICE" and now > self.renewed[key] + one.ttl
        ]
        for key in gone:
            del self.there[key]
        self.expired.update(gone)
        return len(gone)


class Scene:
    """Two registries, a model and dice."""

    def __init__(self, kit: RedisKit, seed: int) -> None:
        self.kit = kit
        self.dice = random.Random(seed)
        self.model = Model()
        self.cut = False
        self.happened: list[list[Happened]] = [[], []]
        self.stores = [kit.make(happened=one) for one in self.happened]

    def write(self, port: int) -> Write:
        dice = self.dice
        one = instance(
            port=port,
            ttl=dice.choice([10, 30, 60]),
            tags=(f"v{dice.randint(1, 3)}",),
            status=dice.choice(["UP", "UP", "STARTING", "OUT_OF_SERVICE"]),
        )
        return Write(dice.choice(KINDS), one)

    def writes(self, number: int) -> list[Write]:
        """To so many different instances, so that their order means nothing."""
        return [self.write(port) for port in self.dice.sample(range(1, PORTS + 1), number)]

    async def take(self, store: RedisStore, write: Write) -> None:
        """Write, and once more where a connection turns out to have been cut before."""
        known = await write.by(store)
        again = 0
        while known is None and self.cut and again < AGAIN:
            again += 1
            await self.kit.up(store)  # it may learn of the cut only now
            known = await write.by(store)
        existed = self.model.take(write, self.kit.now)
        gone_before = again > 0 and write.kind == "remove" and known is False
        assert known == existed or gone_before, write

    async def agree(self) -> None:
        async def same() -> bool:
            wanted = {key: (one.tags, one.status, one.ttl) for key, one in self.model.there.items()}
            return all(shown(store) == wanted for store in self.stores)

        await eventually(same, within=20, what="what the model has, in both registries")

    async def one(self) -> None:
        await self.take(self.dice.choice(self.stores), self.write(self.dice.randint(1, PORTS)))

    async def many_at_once(self) -> None:
        writes = self.writes(self.dice.randint(2, PORTS))
        await asyncio.gather(*(self.take(self.dice.choice(self.stores), write) for write in writes))

    async def race(self) -> None:
        """Both write the same instance: one of them was the last, and both say which."""
        port = self.dice.randint(1, PORTS)
        writes = [Write("register", instance(port=port, tags=(f"r{number}",))) for number in range(6)]
        known = await asyncio.gather(
            *(write.by(self.stores[number % 2]) for number, write in enumerate(writes))
        )
        if not all(known):  # cut before; who was last is for nobody to say
            assert self.cut
            await self.take(self.stores[0], writes[0])
            return

        async def settled() -> dict[str, object] | None:
            first, second = map(shown, self.stores)
            return first if first == second else None

        found = await eventually(settled, within=20, what="agreement")
        last = [write for write in writes if found[write.instance.id] == content(write.instance)]
        assert len(last) == 1
        self.model.take(last[0], self.kit.now)

    async def time_passes(self) -> None:
        self.kit.advance(self.dice.choice([1, 5, 20, 40]))
        lapsed = self.model.expire(self.kit.now)
        counts = await asyncio.gather(*(store.expire() for store in self.stores for _ in range(2)))
        again = 0
        while sum(counts) < lapsed and self.cut and again < AGAIN:
            again += 1
            await self.kit.up(*self.stores)
            counts.append(await self.stores[again % 2].expire())
        assert sum(counts) == lapsed

    async def one_falls_behind(self) -> None:
        slow, other = self.dice.sample(self.stores, 2)
        await self.kit.stop(slow)
        for _ in range(5):
            await self.take(other, self.write(self.dice.randint(1, PORTS)))
        self.kit.follow(slow)
        await self.kit.up(*self.stores)

    async def trouble(self, kind: Literal["cut", "kill"]) -> None:
        """Amid writes; of those that failed either may be true, and both registries say the same."""
        writes = self.writes(PORTS)
        going = [asyncio.create_task(write.by(self.dice.choice(self.stores))) for write in writes]
        for _ in range(self.dice.randint(0, 30)):
            await asyncio.sleep(0)
        if kind == "kill":
            self.kit.server.kill()
        else:
            self.cut = True
            self.kit.server.ask("CLIENT", "KILL", "TYPE", "normal")
        known = await asyncio.gather(*going)
        if kind == "kill":
            await self.kit.down(*self.stores)
            before = [shown(store) for store in self.stores]
            assert await self.write(1).by(self.stores[0]) is None
            assert [shown(store) for store in self.stores] == before, "reads go on"
            self.kit.server.start()
        await self.kit.up(*self.stores)

        async def settled() -> bool:
            first, second = map(shown, self.stores)
            return first == second and len({store.view("t").feed.revision for store in self.stores}) == 1

        await eventually(settled, within=20, what="agreement")
        found = shown(self.stores[0])
        for write, answer in zip(writes, known, strict=True):
            key = write.instance.id
            without = self.model.there.get(key)
            existed = self.model.take(write, self.kit.now)
            taken = self.model.there.get(key)
            if answer is not None:
                assert answer == existed, write
                continue
            possible = [None if one is None else content(one) for one in (without, taken)]
            assert found.get(key) in possible, (write, "neither as before nor as written")
            if found.get(key) != possible[1]:
                self.model.there.pop(key, None)
                if without is not None:
                    self.model.there[key] = without
            if key in self.model.there:
                await self.take(self.stores[0], Write("renew", write.instance))

    async def step(self) -> None:
        deed = self.dice.random()
        if deed < 0.45:
            await self.one()
        elif deed < 0.60:
            await self.many_at_once()
        elif deed < 0.70:
            await self.race()
        elif deed < 0.85:
            await self.time_passes()
        elif deed < 0.90:
            await self.one_falls_behind()
        else:
            await self.trouble("cut" if deed < 0.96 else "kill")
        await self.agree()


def content(one: Instance) -> tuple[tuple[str, ...], str, int]:
    return one.tags, one.status, one.ttl


def shown(store: RedisStore) -> dict[str, object]:
    return {lease.instance.id: content(lease.instance) for lease in store.view("t")}


async def play(seed: int, steps: int) -> None:
    async with redis_kit(durable=True) as kit:
        scene = Scene(kit, seed)
        await kit.up(*scene.stores)
        try:
            for _ in range(steps):
                await scene.step()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        for told in scene.happened:
            assert Counter(event.id for event in told if event.what == "expired") == scene.model.expired
        late = kit.make()
        await kit.up(late)
        assert shown(late) == shown(scene.stores[0])


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_both_show_what_the_model_has(seed: int) -> None:
    await play(seed, STEPS)


@pytest.mark.timeout(SECONDS + 120)
async def test_other_seeds_for_a_long_time(capsys: pytest.CaptureFixture[str]) -> None:
    """``make races SECONDS=600``; else one scene, always the same."""
    first = seed = random.SystemRandom().randrange(1 << 30) if SECONDS else 1 << 30
    end = time.monotonic() + SECONDS
    while seed == first or time.monotonic() < end:
        await play(seed, STEPS)
        seed += 1
    with capsys.disabled():
        print(f"\n{seed - first} scenes of {STEPS} steps each, from seed {first}: none diverged")
