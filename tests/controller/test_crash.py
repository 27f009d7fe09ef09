"""A write that dies at any of its steps leaves the state before it or the one after it, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.sqlite import open_sqlite
from tests.controller.crash import DIED, OPERATIONS, operation, prepared

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from pathlib import Path
from tests.controller.crash import run
import shutil
source, name = Path(sys.argv[1]), sys.argv[2]
for step in range(1, 100):
    path = source.with_name(f"{name}-{step}.db")
    shutil.copy(source, path)
    code = run(path, name, step)
    print(step, code)
    if code == 0:
        break
"""


async def state(path: Path) -> tuple[Rulebook, list[Change]]:
    store = await open_sqlite(path, kept=2)
    try:
        return (await store.load("default")).book, await store.log("default")
    finally:
        await store.close()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_one_of_the_two_sound_states(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source.db"
    await prepared(source)
    before, log = await state(source)
    change = operation(name, before)
    after = apply(before, change)
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs meanwhile
        [sys.executable, "-c", SCRIPT, source, name],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
    )
    codes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(codes) > 6  # begin, the tenant, the log, the rules, what waits, commit
    assert codes == [DIED] * (len(codes) - 1) + [0]
    found = [await state(tmp_path / f"{name}-{step}.db") for step in range(1, len(codes) + 1)]
    assert found[0] == (before, log)
    assert found[-1] == (after, [change, *log][:2])
    for one in found:
        assert one in (found[0], found[-1])
    # The tables leave nothing of the other state behind either.
    assert {one[0].revision for one in found} == {2, 3}


async def test_a_start_that_dies_can_be_repeated(tmp_path: Path) -> None:
    """A file that was just being made is finished by whoever opens it next."""
    path = tmp_path / "new.db"
    path.write_bytes(b"")
    assert (await state(path)) == (Rulebook(), [])
    shutil.copy(path, tmp_path / "again.db")
    assert (await state(tmp_path / "again.db")) == (Rulebook(), [])
