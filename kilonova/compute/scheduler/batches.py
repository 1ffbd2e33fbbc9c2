"""Batches: many callers, one at work. Whoever comes first serves all that wait, in its own task and trace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from kilonova.base.faults import Fault

T = TypeVar("T")
R = TypeVar("R")


class Waiting(Generic[T, R]):
    """An item, and the place for its answer."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()

    def give(self, answer: R) -> None:
        """The answer, unless the asker is gone."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """No answer, unless the asker is gone."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Batches(Generic[T, R]):
    """`serve` answers each of the waiting, at most `most` at once, and is never run twice at the same time."""

    def __init__(self, serve: Callable[[list[Waiting[T, R]]], Awaitable[None]], most: int) -> None:
        self._serve = serve
        self._most = most
        self._waiting: list[Waiting[T, R]] = []
        self._turn = asyncio.Lock()

    async def ask(self, item: T) -> R:
        """The answer to the item, from a batch that it is part of."""
        mine: Waiting[T, R] = Waiting(item)
        self._waiting.append(mine)
        try:
            async with self._turn:
                if not mine.answer.done():
                    await self._lead()
            return await mine.answer
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
            mine.answer.cancel()

    async def _lead(self) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            await self._serve(batch)
        except Fault as fault:
            for one in batch:
                one.fail(fault)
            raise
        finally:  # the leader was stopped or fell over: the others are served by the next
            self._waiting[:0] = [one for one in batch if not one.answer.done()]
