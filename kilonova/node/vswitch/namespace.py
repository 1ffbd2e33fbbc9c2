"""Network namespaces: made, deleted, and worked in by threads that entered them. Visible to `ip netns`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from kilonova.base.faults import Fault, unavailable

T = TypeVar("T")

DIRECTORY: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 0x1000, 0x4000, 0x100000, 0x2
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise _refused(f"{what}: {os.strerror(number)}")


def _refused(inside: str) -> Fault:
    return unavailable(
        "This machine did not let us work with network namespaces.",
        hint="Run as root (CAP_SYS_ADMIN and CAP_NET_ADMIN), or use fake networks.",
        inside=inside,
    )


def names(prefix: str) -> list[str]:
    """The names of all namespaces that begin with `prefix`, sorted."""
    if not DIRECTORY.is_dir():
        return []
    return sorted(path.name for path in DIRECTORY.iterdir() if path.name.startswith(prefix))


def exists(name: str) -> bool:
    """Whether there is a namespace of that name that can be entered."""
    return os.path.ismount(DIRECTORY / name) or _is_namespace(DIRECTORY / name)


def _is_namespace(path: Path) -> bool:
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev  # nsfs
    except OSError:
        return False


def create(name: str) -> bool:
    """Make the namespace `name` with its loopback up; False when it is there already."""
    if exists(name):
        return False
    path = DIRECTORY / name
    _share_directory()
    path.touch(mode=0o444)
    failure: list[BaseException] = []

    def make() -> None:  # in a thread of its own, which ends in the new namespace
        try:
            _checked(_libc.unshare(_CLONE_NEWNET), "unshare")
            source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
            _checked(_libc.mount(source, str(path).encode(), b"none", _MS_BIND, None), f"mount {path}")
            _loopback_up()
        except (OSError, Fault) as error:
            failure.append(error)

    thread = threading.Thread(target=make, name=f"make {name}")
    thread.start()
    thread.join()
    if failure:
        delete(name)
        raise failure[0]
    return True


def _share_directory() -> None:
    """/run/netns as `ip netns` makes it: a shared mount, so that other mount namespaces see what comes and goes."""
    DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    here = str(DIRECTORY).encode()
    if _libc.mount(b"", here, b"none", _MS_SHARED | _MS_REC, None):
        _checked(_libc.mount(here, here, b"none", _MS_BIND | _MS_REC, None), f"mount {DIRECTORY}")
        _checked(_libc.mount(b"", here, b"none", _MS_SHARED | _MS_REC, None), f"share {DIRECTORY}")


def _loopback_up() -> None:
    from fcntl import ioctl
    from struct import pack

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        ioctl(asker, 0x8914, pack("16sh22x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP


def delete(name: str) -> None:
    """Remove the namespace; its interfaces go with its last process. One that is gone is fine."""
    path = DIRECTORY / name
    _libc.umount2(str(path).encode(), _MNT_DETACH)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def enter(name: str) -> None:
    """Move the calling thread into the namespace."""
    try:
        descriptor = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(f"namespace {name}: {error}") from error
    try:
        _checked(_libc.setns(descriptor, _CLONE_NEWNET), f"setns {name}")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def visiting(name: str) -> Iterator[None]:
    """The calling thread is in `name` inside the block, and where it was afterwards."""
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(name)
        yield
    finally:
        _checked(_libc.setns(home, _CLONE_NEWNET), "setns home")
        os.close(home)


def set_sysctl(key: str, value: int | str) -> None:
    """Set `net/…` in the calling thread's namespace."""
    Path("/proc/sys", key).write_text(str(value))


class NamespaceThreads:
    """Threads that live in one namespace ("": this process' own); the event loop stays where it is."""

    def __init__(self, name: str, *, threads: int = 4) -> None:
        self.name = name
        if name:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=enter, initargs=(name,))
        else:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="host")

    async def run(self, fn: Callable[..., T], *args: object) -> T:
        """`fn(*args)` done in the namespace."""
        return await asyncio.wrap_future(self._pool.submit(fn, *args))

    async def run_in(self, namespace: str, fn: Callable[..., T], *args: object) -> T:
        """`fn(*args)` done in another namespace, by one of these threads, which then returns."""

        def visit() -> T:
            with visiting(namespace):
                return fn(*args)

        return await self.run(visit)

    async def connect_socket(self, address: str, port: int, *, timeout_seconds: float = 5.0) -> socket.socket:
        """A connected TCP socket made in the namespace, ready for the event loop."""
        try:
            connected = await self.run(lambda: socket.create_connection((address, port), timeout_seconds))
        except OSError as error:
            raise unavailable(
                f"Nothing answers at port {port}.", inside=f"{self.name} {address}:{port}: {error}"
            ) from error
        connected.setblocking(False)
        return connected

    async def connect(
        self, address: str, port: int, *, timeout_seconds: float = 5.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Streams of a TCP connection made in the namespace."""
        connected = await self.connect_socket(address, port, timeout_seconds=timeout_seconds)
        return await asyncio.open_connection(sock=connected)

    async def listen(self, address: str, port: int, *, namespace: str = "") -> socket.socket:
        """A listening TCP socket made in the namespace, or in another one."""
        if namespace:
            return await self.run_in(namespace, listening, address, port)
        return await self.run(listening, address, port)

    async def start_process(
        self, arguments: Sequence[str], *, namespace: str = "", log_file: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """A process in the namespace, in a session of its own: it outlives us. Input is empty."""
        if namespace:
            return await self.run_in(namespace, started, arguments, log_file)
        return await self.run(started, arguments, log_file)

    def close(self) -> None:
        """End the threads when their work is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def listening(address: str, port: int) -> socket.socket:
    """A listening TCP socket in the calling thread's namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def started(arguments: Sequence[str], log_file: Path | None = None) -> subprocess.Popen[bytes]:
    """A process in the calling thread's namespace (a child is born where its parent's thread is)."""
    output = open(log_file, "ab") if log_file else subprocess.DEVNULL  # noqa: SIM115 — closed below
    try:
        return subprocess.Popen(
            list(arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    finally:
        if not isinstance(output, int):
            output.close()
