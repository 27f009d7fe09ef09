"""Rotation and traced calls, on files that nobody else writes."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from amalgam8.sidecar.envoy import recorder as module
from amalgam8.sidecar.envoy.recorder import KEPT, RING, Recorder
from tests.sidecar.envoy.support import until


class Files:
    """``records`` and ``traced``, and how often Envoy was told to open them again."""

    def __init__(self, folder: Path) -> None:
        self.records, self.traced = folder / "access.log", folder / "traced.log"
        self.reopened = 0

    async def reopen(self) -> None:
        self.reopened += 1
        self.traced.touch()

    def trace(self, number: int) -> bytes:
        return msgspec.json.encode({"status": "200", "traces": {"number": number}}) + b"\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(module, "CHECK", 0.001)
    return Files(tmp_path)


async def test_old_logs_go_when_there_are_enough(files: Files) -> None:
    recorder = Recorder(files.records, files.traced, 10, files.reopen)
    task = asyncio.create_task(recorder.run())
    for turn in range(KEPT + 2):
        files.records.write_bytes(b"x" * 11 + str(turn).encode())
        await until(lambda turn=turn: files.reopened == turn + 1)  # type: ignore[misc]
    task.cancel()
    aside = sorted(path.name for path in files.records.parent.glob("access.log.*"))
    assert aside == [f"access.log.{number}" for number in range(1, KEPT + 1)]
    assert files.records.with_name("access.log.1").read_bytes().endswith(str(KEPT + 1).encode())


async def test_no_trace_is_lost_when_their_file_is_turned(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPOOL_BYTES", 300)
    recorder = Recorder(files.records, files.traced, 10**6, files.reopen)
    task = asyncio.create_task(recorder.run())
    for number in range(100):
        with files.traced.open("ab") as file:
            line = files.trace(number)
            file.write(line[:7])
            file.flush()
            await asyncio.sleep(0)
            file.write(line[7:])
        await until(lambda number=number: len(recorder.ring) == number + 1)  # type: ignore[misc]
    task.cancel()
    assert [record["number"] for record in recorder.ring] == list(range(100))
    lines = files.records.read_bytes().splitlines()
    assert [msgspec.json.decode(line) for line in lines] == list(recorder.ring)
    assert files.reopened > 0


async def test_the_ring_has_an_end_and_odd_lines_do_no_harm(files: Files) -> None:
    files.traced.write_bytes(b"no json\n" + b"".join(files.trace(n) for n in range(RING + 5)) + b"{")
    recorder = Recorder(None, files.traced, 10, files.reopen)
    recorder.close()
    assert len(recorder.ring) == RING
    assert recorder.ring[-1]["number"] == RING + 4
    assert not files.traced.exists()
    assert not files.records.exists()
