"""Dies in the middle of a write: ``python crash.py DATABASE OPERATION STEP``.

Opens the database as the controller does and carries the operation out, but the process ends without
warning just before the STEP-th statement that SQLite would run. Exit code 0: it came to its end.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from amalgam8.controller import declare, rulebook, undo
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.rulebook import Selection
from amalgam8.controller.sqlite import open_sqlite
from tests.controller.rules import NOON, fault, route, write

DIED = 77


def operation(name: str, book: Rulebook) -> Change:
    """What each operation does to the database that ``prepared`` made."""
    makers: dict[str, Callable[[], Change | None]] = {
        "confirmed": lambda: rulebook.replace(
            book, [route("a", version="v9"), route("b", version="v9")], write(NOON + 10, confirm_within=30)
        ),
        "revert": lambda: undo.revert(book, write(NOON + 9999)),
        "confirm": lambda: undo.confirm(book, 2, write(NOON + 10)),
        "apply": lambda: declare.declare(
            book, [route("a", version="v5"), fault("new")], (), write(NOON + 10)
        ),
        "remove": lambda: rulebook.remove(book, Selection(), write(NOON + 10)),
    }
    found = makers[name]()
    assert found is not None
    return found


OPERATIONS = ("confirmed", "revert", "confirm", "apply", "remove")


async def prepared(path: Path) -> None:
    """A database with rules, and with a change at revision 2 that waits to be confirmed."""
    store = await open_sqlite(path, kept=2)
    book = (await store.load("default")).book
    await store.append("default", 0, rulebook.create(book, [route("a"), route("b"), fault("f")], write()))
    book = (await store.load("default")).book
    await store.append(
        "default", 1, rulebook.replace(book, [route("b", version="v2")], write(confirm_within=600))
    )
    await store.close()


async def main(path: Path, name: str, step: int) -> None:
    store = await open_sqlite(path, kept=2)
    book = (await store.load("default")).book
    change = operation(name, book)
    count = 0

    def trace(_statement: str) -> None:
        nonlocal count
        count += 1
        if count == step:
            os._exit(DIED)

    store._connection.set_trace_callback(trace)
    await store.append("default", book.revision, change)
    os._exit(0)


def run(path: Path, name: str, step: int) -> int:
    """The same in a process of its own, which is forked before anything is open; returns its exit code."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(main(path, name, step))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.stdout.write(f"{run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))}\n")
