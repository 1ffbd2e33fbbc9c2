"""What an operator's monitoring hears of a process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.cli.admin_port import AdminPort
from tests.services import free_port


@asynccontextmanager
async def process(wrong: list[str]) -> AsyncIterator[tuple[int, httpx.AsyncClient]]:
    async def describe() -> dict[str, Any]:
        return {"service": "conductor"}

    async def problems() -> list[str]:
        return wrong

    admin = AdminPort(port := free_port(), describe, problems)
    await admin.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield port, client
    finally:
        await admin.close()


async def raw(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def test_it_tells_health_readiness_status_and_metrics() -> None:
    wrong = list[str]()
    async with process(wrong) as (_, client):
        assert (await client.get("/healthz")).text == "ok\n"
        assert (await client.get("/readyz")).json() == {"ready": True, "problems": []}
        wrong.append("the broker does not answer")
        answer = await client.get("/readyz?verbose=1")
        assert (answer.status_code, answer.json()["problems"]) == (503, wrong)
        assert (await client.get("/status")).json() == {"service": "conductor"}
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'kilonova_open{what="descriptors"}' in answer.text
        answer = await client.head("/metrics")
        assert (answer.status_code, answer.content) == (200, b"") and int(answer.headers["content-length"]) > 100


async def test_it_tells_nothing_else() -> None:
    async with process([]) as (port, client):
        assert (await client.get("/")).status_code == 404
        assert (await client.post("/healthz", content=json.dumps({}))).status_code == 405
        for nonsense in (b"", b"GET", b"GET http://elsewhere/ HTTP/1.1", b"\x16\x03\x01"):
            assert (await raw(port, nonsense + b"\r\n\r\n")).startswith(b"HTTP/1.1 400 "), nonsense
        assert await raw(port, b"GET /" + b"x" * 20_000) == b"", "too long a question is no question"
        assert (await client.get("/healthz")).status_code == 200, "it goes on"


async def test_a_port_in_use_is_said() -> None:
    async with process([]) as (port, _):
        with pytest.raises(Fault, match=f"Port {port} on 127.0.0.1 is in use") as refused:
            async with process([]):
                await AdminPort(port, dict, list).start()  # type: ignore[arg-type]
        assert refused.value.kind is Kind.CONFLICT
