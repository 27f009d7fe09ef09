"""The sidecar's folder on disk: its id, and the lock that keeps a second sidecar out.

The folder and what is in it belong to its user alone (0700). Refuses to share: a folder that a running
sidecar holds is an InvalidSetting. The lock ends with the process that holds it, however that ends.
"""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from amalgam8.model.errors import InvalidSetting

ID_FILE = "sidecar-id"
LOCK_FILE = "lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Make the folder where it is missing, and hold its lock inside the block.

    Raises:
        InvalidSetting: it cannot be made or written, or another sidecar holds it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _refused(folder, error) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
            who = f" (process {holder})" if holder else ""
            raise InvalidSetting(
                f"state_dir: {folder} is in use by another sidecar{who}; give each its own"
            ) from None
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise _refused(folder, error) from None
        yield folder
    finally:
        os.close(lock)


def identity(folder: Path) -> str:
    """This sidecar's UUID: the one that the folder keeps, or a new one, kept from now on.

    Raises:
        InvalidSetting: the folder cannot be read or written.
    """
    path = folder / ID_FILE
    try:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
        new = str(uuid.uuid4())
        draft = path.with_suffix(".new")
        draft.write_text(new + "\n", encoding="ascii")
        draft.replace(path)
        return new
    except OSError as error:
        raise _refused(folder, error) from None


def _refused(folder: Path, error: OSError) -> InvalidSetting:
    return InvalidSetting(f"state_dir: {folder} cannot be written: {error.strerror}")
