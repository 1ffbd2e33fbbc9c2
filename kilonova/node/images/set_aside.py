"""A server's old disks, kept beside the new ones until whoever changed them is sure.

`ID` holds the disks in use, `ID.before` those that are kept, `ID.next` those in the making, `ID.gone` what is being
removed. Each change ends with one rename, so that a host that dies in the middle goes on where it was.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from kilonova.base.faults import no_capacity, unavailable
from kilonova.node.images.cache import require_room


def set_aside(servers: Path, server_id: str, prepare: Callable[[Path, Path], None]) -> None:
    """What `prepare(new, old)` makes stands in place of the old disks, which are kept. Kept already: nothing."""
    place, kept, coming = _places(servers, server_id)
    if kept.exists() and place.exists():
        return
    if not kept.exists():
        place.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(coming, ignore_errors=True)
        coming.mkdir()
        coming.chmod(0o711)
        try:
            prepare(coming, place)
        except BaseException:
            shutil.rmtree(coming, ignore_errors=True)
            raise
        place.rename(kept)
    coming.rename(place)


def put_back(servers: Path, server_id: str) -> None:
    """The kept disks are in use again, the new ones are gone. None are kept: nothing."""
    place, kept, coming = _places(servers, server_id)
    if kept.exists():
        _remove(place)
        kept.rename(place)
    _remove(coming)


def forget(servers: Path, server_id: str) -> None:
    """The kept disks are gone. One rename decides it: what a crash leaves of them is nobody's any more."""
    _, kept, _ = _places(servers, server_id)
    gone = servers / f"{server_id}.gone"
    if kept.exists():
        shutil.rmtree(gone, ignore_errors=True)
        kept.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def drop_all(servers: Path, server_id: str) -> None:
    """Nothing of the server's disks is left."""
    for one in (*_places(servers, server_id), servers / f"{server_id}.gone"):
        _remove(one)


def copy_files(new: Path, old: Path, leave_out: Callable[[Path], bool]) -> None:
    """The files of `old` in `new`, shared where the file system can. NO_CAPACITY before a byte is written."""
    files = [one for one in sorted(old.iterdir()) if one.suffix != ".part" and not leave_out(one)]
    require_room(new, sum(one.stat().st_blocks * 512 for one in files), f"a copy of the disks of server {old.name}")
    for one in files:
        command = ["cp", "--reflink=auto", "--sparse=always", "--preserve=mode,ownership", str(one), str(new)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            if "No space left" in done.stderr:
                raise no_capacity("The host's disk is full.", inside=done.stderr[-500:])
            raise unavailable("A disk of the server could not be copied.", inside=done.stderr[-500:])


def _places(servers: Path, server_id: str) -> tuple[Path, Path, Path]:
    return servers / server_id, servers / f"{server_id}.before", servers / f"{server_id}.next"


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass
