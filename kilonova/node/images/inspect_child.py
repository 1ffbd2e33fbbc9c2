"""The inspector's child: reads headers that users wrote, with nothing in reach but memory and one socket.

It shuts itself in before it reads the first byte: as root it becomes nobody in a network namespace of its own; always
it is limited in memory, time, files and processes, and a system call filter leaves it reading, writing and memory. What
is imported here is all it will ever have: the standard library only, as the rest may be where nobody may read.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys
import time
from typing import Final

from kilonova.node.images.formats import verdict

REQUEST: Final = struct.Struct("!IIQ")  # lengths of head and tail, size of the data; head and tail follow
REPLY: Final = struct.Struct("!I")  # length of what follows
READY: Final = b"ready"
MEMORY_BYTES: Final = 128 << 20  # of address space; the head is 5 MiB
CPU_SECONDS: Final = 30  # in all; it is replaced long before, as a verdict takes milliseconds
NOBODY: Final = 65534

_NEW_NETWORK_AND_IPC: Final = 0x40000000 | 0x08000000  # unshare(2)
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2  # prctl(2)
_ALLOW, _REFUSE_AS_NOT_PERMITTED = 0x7FFF0000, 0x00050001
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF
# Architecture as the kernel names it, and its numbers of read, write, close, mmap, mprotect, munmap, brk, rt_sigreturn,
# mremap, madvise, futex, restart_syscall, clock_gettime, exit, exit_group.
_CALLS: Final[dict[str, tuple[int, tuple[int, ...]]]] = {
    "x86_64": (0xC000003E, (0, 1, 3, 9, 10, 11, 12, 15, 25, 28, 202, 219, 228, 60, 231)),
    "aarch64": (0xC00000B7, (63, 64, 57, 222, 226, 215, 214, 139, 216, 233, 98, 128, 113, 93, 94)),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def main() -> None:
    """Judge what comes over descriptor 0 until it is closed, or until so many seconds of CPU (argv[2]) were needed."""
    tired_seconds = float(sys.argv[2])
    if why := shut_in():
        _answer(why.encode())
        return
    _answer(READY)
    while request := _read(REQUEST.size):
        head_length, tail_length, size_bytes = REQUEST.unpack(request)
        head = _read(head_length)
        found = verdict(head, _read(tail_length), size_bytes)
        _answer(json.dumps(found._asdict()).encode())
        if time.process_time() > tired_seconds:
            return


def shut_in() -> str:
    """Give up everything. Why that did not work, or ""."""
    libc = ctypes.CDLL(None, use_errno=True)
    apart = False
    if os.geteuid() == 0:
        apart = libc.unshare(_NEW_NETWORK_AND_IPC) == 0
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)  # capabilities go with it
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return f"no_new_privs: error {ctypes.get_errno()}"
    if not (_filter_calls(libc) or apart):
        return f"neither a system call filter nor a network namespace can be had: error {ctypes.get_errno()}"
    return ""


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """Everything but the allowed calls is not permitted from now on; False where that cannot be had."""
    machine = platform.machine()
    if machine not in _CALLS:
        return False
    architecture, calls = _CALLS[machine]
    refuse = _instruction(_RETURN, 0, 0, _REFUSE_AS_NOT_PERMITTED)
    program = _instruction(_LOAD, 0, 0, 4) + _instruction(_IF_EQUAL, 1, 0, architecture) + refuse
    program += _instruction(_LOAD, 0, 0, 0)
    for left, call in zip(reversed(range(len(calls))), calls, strict=True):
        program += _instruction(_IF_EQUAL, left + 1, 0, call)
    program += refuse + _instruction(_RETURN, 0, 0, _ALLOW)
    kept = ctypes.create_string_buffer(program)
    told = _Program(len(program) // 8, ctypes.addressof(kept))
    return int(libc.prctl(_SECCOMP, _FILTER, ctypes.byref(told), 0, 0)) == 0


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, value)


def _read(length: int) -> bytes:
    """So many bytes; none when the other end is closed."""
    pieces = bytearray()
    while len(pieces) < length:
        piece = os.read(0, length - len(pieces))
        if not piece:
            return b""
        pieces += piece
    return bytes(pieces)


def _answer(text: bytes) -> None:
    left = memoryview(REPLY.pack(len(text)) + text)
    while left:
        left = left[os.write(0, left) :]
