"""nftables in process, by libnftables: a batch of commands is one transaction, in the calling thread's namespace.

Commands are text, not JSON: the JSON of nft 1.0 cannot declare a map with `typeof … : ct zone`, and text is what
people read in nft(8). Whoever renders text validates every value first.
"""

from __future__ import annotations

import ctypes
import json
from functools import cache
from typing import Any, Final

from kilonova.base.faults import Kind, bug, unavailable

_JSON_OUTPUT: Final = 1 << 4


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise unavailable(
            "libnftables is not installed.", hint="Install the package libnftables1.", inside=str(error)
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("free", "buffer_output", "buffer_error"):
        getattr(library, f"nft_ctx_{name}").argtypes = [ctypes.c_void_p]
    for name in ("output", "error"):
        getter = getattr(library, f"nft_ctx_get_{name}_buffer")
        getter.restype, getter.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _run(commands: str, flags: int) -> tuple[int, str, str]:
    library = _library()
    context = ctypes.c_void_p(library.nft_ctx_new(0))  # its socket belongs to this thread's namespace
    try:
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_output_set_flags(context, flags)
        code = library.nft_run_cmd_from_buffer(context, commands.encode())
        output = library.nft_ctx_get_output_buffer(context) or b""
        error = library.nft_ctx_get_error_buffer(context) or b""
        return int(code), output.decode(errors="replace"), error.decode(errors="replace")
    finally:
        library.nft_ctx_free(context)


def run(commands: str) -> None:
    """Do all the commands, or none; a Fault holds what nft said."""
    code, _, error = _run(commands, 0)
    if code:
        fault = bug(f"nft refused: {error[:2000]}")
        fault.kind = Kind.UNAVAILABLE if "Operation not permitted" in error else fault.kind
        raise fault


def query(command: str) -> list[dict[str, Any]] | None:
    """The objects that a `list …` command answers, as nft's JSON; None when there is no such thing."""
    code, output, _ = _run(command, _JSON_OUTPUT)
    if code:
        return None
    return [item for item in json.loads(output)["nftables"] if "metainfo" not in item]


def elements(family: str, table: str, kind: str, name: str) -> list[Any]:
    """The elements of a named set (values) or map ([key, value] pairs); empty when it does not exist."""
    for item in query(f"list {kind} {family} {table} {name}") or []:
        if kind in item:
            return list(item[kind].get("elem", []))
    return []
