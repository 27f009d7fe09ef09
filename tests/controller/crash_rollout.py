"""Dies in the middle of a rollout: ``python crash_rollout.py FOLDER good|bad``.

Runs a whole rollout in virtual time on a database, again and again: the first time the process ends without
warning just before the first statement that SQLite would run, the second time before the second, until one
comes to its end. Prints the exit codes; each leaves its database behind.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from amalgam8.controller.rollout import Order
from amalgam8.controller.sqlite import open_sqlite
from tests.controller.crash import DIED
from tests.controller.world import World

ORDER = Order("reviews", ("v2",), (25.0, 100.0), interval=4.0)
STEPS_LIMIT = 400


async def prepared(path: Path) -> None:
    """A database with a default route."""
    store = await open_sqlite(path)
    await World(store).open()
    await store.close()


async def main(path: Path, kind: str, step: int) -> None:
    store = await open_sqlite(path)
    made = await World(store).open()
    if kind == "bad":
        made.errors = {"v2": 0.2}
    count = 0

    def trace(_statement: str) -> None:
        nonlocal count
        count += 1
        if count == step:
            os._exit(DIED)

    store._connection.set_trace_callback(trace)
    await made.start(ORDER)
    await made.ended()
    os._exit(0)


def run(path: Path, kind: str, step: int) -> int:
    """One of them in a process that is forked before anything is open; returns its exit code."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(main(path, kind, step))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    asyncio.run(prepared(folder / "source.db"))
    for step in range(1, STEPS_LIMIT):
        path = folder / f"{kind}-{step}.db"
        shutil.copy(folder / "source.db", path)
        code = run(path, kind, step)
        sys.stdout.write(f"{code}\n")
        if code == 0:
            break
