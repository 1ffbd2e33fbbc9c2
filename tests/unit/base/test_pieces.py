"""Streams in pieces: nothing is lost or moved, large chunks are not copied, small ones are joined."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable

from kilonova.base.pieces import SMALL_BYTES, in_pieces


async def _stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_bytes_stay_in_order_whatever_they_come_in() -> None:
    chance = random.Random(7)
    for _ in range(30):
        sizes = [chance.choice((1, 100, SMALL_BYTES - 1, SMALL_BYTES, 3 * SMALL_BYTES)) for _ in range(40)]
        chunks = [chance.randbytes(size) for size in sizes]
        pieces = [piece async for piece in in_pieces(_stream(chunks), 4 * SMALL_BYTES)]
        assert b"".join(b"".join(piece) for piece in pieces) == b"".join(chunks)
        assert all(sum(map(len, piece)) >= 4 * SMALL_BYTES for piece in pieces[:-1])


async def test_large_chunks_are_handed_on_as_they_are() -> None:
    chunks = [bytes(SMALL_BYTES) for _ in range(5)]
    handed = [chunk async for piece in in_pieces(_stream(chunks), 2 * SMALL_BYTES) for chunk in piece]
    assert [id(chunk) for chunk in handed] == [id(chunk) for chunk in chunks]


async def test_single_bytes_cost_what_others_cost() -> None:
    chunks = (b"x" for _ in range(3 * SMALL_BYTES))
    pieces = [piece async for piece in in_pieces(_stream(chunks), SMALL_BYTES)]
    assert [len(piece) for piece in pieces] == [1, 1, 1]
    assert [piece async for piece in in_pieces(_stream([]), 10)] == []
