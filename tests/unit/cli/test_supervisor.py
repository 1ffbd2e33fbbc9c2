"""What systemd hears of a process."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import pytest

from kilonova.cli.supervisor import Supervisor


@pytest.mark.parametrize("abstract", [False, True])
def test_it_hears_that_the_process_is_ready_and_that_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    address = f"@kilonova-{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0", 1) if abstract else address)
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        supervisor = Supervisor()
        assert "NOTIFY_SOCKET" not in os.environ, "what the process starts does not speak for it"
        supervisor.ready()
        supervisor.leaving()
        assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_without_systemd_nobody_hears_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Supervisor().ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Supervisor().ready()
