"""Streams of bytes in pieces that are worth a hop to another thread, without copying what comes in large chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

SMALL_BYTES: Final = 32 << 10  # what is smaller costs more to carry than to copy


async def in_pieces(chunks: AsyncIterator[bytes], piece_bytes: int) -> AsyncIterator[list[bytes]]:
    """The bytes as lists of chunks, each list with `piece_bytes` or a chunk more; the last may have less.

    Small chunks are joined, so that whoever sends single bytes costs no more memory than others.
    """
    piece: list[bytes] = []
    small, size_bytes = bytearray(), 0
    async for chunk in chunks:
        size_bytes += len(chunk)
        whole = len(chunk) >= SMALL_BYTES
        if not whole:
            small += chunk
        if small and (whole or len(small) >= SMALL_BYTES or size_bytes >= piece_bytes):
            piece.append(bytes(small))
            small.clear()
        if whole:
            piece.append(chunk)
        if size_bytes >= piece_bytes:
            yield piece
            piece, size_bytes = [], 0
    if small:
        piece.append(bytes(small))
    if piece:
        yield piece
