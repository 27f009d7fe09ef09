"""A rollout that dies at any statement of its writes leaves sound rules, alone and with a successor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amalgam8.controller.rollout_rules import HOLD
from amalgam8.controller.sqlite import open_sqlite
from tests.controller.crash import DIED
from tests.controller.crash_rollout import ORDER
from tests.controller.test_rollout_driver import Undriven, versions
from tests.controller.world import World

ROOT = Path(__file__).parents[2]
SPLITS = ({"v1": 1}, {"v2": 0.25, "v1": 0.75}, {"v2": 1})

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("kind", ["good", "bad"])
async def test_wherever_it_dies(kind: str, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs meanwhile
        [sys.executable, "-m", "tests.controller.crash_rollout", tmp_path, kind],
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
    )
    codes = [int(line) for line in done.stdout.split()]
    assert len(codes) > 25
    assert codes == [DIED] * (len(codes) - 1) + [0]
    outcomes = set()
    for step in range(1, len(codes) + 1):
        path = tmp_path / f"{kind}-{step}.db"
        outcomes.add(await alone(path))
        await with_a_successor(path, kind)
    assert outcomes == ({"v1", "v2"} if kind == "good" else {"v1"})


async def alone(path: Path) -> str:
    """Nobody drives it any more: the split of one of its steps, then a default route and nothing else."""
    copy = path.with_suffix(".alone.db")
    copy.write_bytes(path.read_bytes())
    if (wal := path.with_name(path.name + "-wal")).exists():
        copy.with_name(copy.name + "-wal").write_bytes(wal.read_bytes())
    store = await open_sqlite(copy)
    made = await World(store).open()
    assert made.split() in SPLITS
    made.rollouts = Undriven()  # type: ignore[assignment]
    made.clock.seconds += 2 * HOLD
    await made.tick()
    assert list(versions(made.tenant.mirror.book)) == ["base"]
    (version,) = made.split()
    await store.close()
    return version


async def with_a_successor(path: Path, kind: str) -> None:
    """The next controller brings it to an end, the one that it would have had."""
    store = await open_sqlite(path)
    made = await World(store).open()
    if kind == "bad":
        made.errors = {"v2": 0.2}
    if not await made.rollouts.all(made.tenant):  # it died before the order was stored
        await made.start(ORDER)
    made.clock.seconds += 60  # as long as it took to start again
    rollout = await made.rollout()
    if rollout.active:
        rollout = await made.ended()
    assert rollout.state == ("done" if kind == "good" else "failed"), rollout.events
    assert versions(made.tenant.mirror.book) == {"base": "v2" if kind == "good" else "v1"}
    await store.close()
