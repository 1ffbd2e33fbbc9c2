"""A guest under plain QEMU on this machine: config drive, network that leaves nowhere, QMP and agent sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from functools import cached_property
from pathlib import Path
from typing import Any

BASE_MAC = "52:54:00:6b:6e:0"
SSH_OPTIONS = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")


def free_port() -> int:
    """A loopback port that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class JsonSocket:
    """QMP or the guest agent: one JSON object per line each way."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("r")

    def ask(self, command: str, **arguments: Any) -> Any:
        """The `return` of a command; events in between are passed over."""
        name = "execute"
        self._socket.sendall(json.dumps({name: command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise AssertionError(answer["error"])
            if "return" in answer:
                return answer["return"]


class Guest:
    """One running guest; `folder` holds its disk, drive, console log and sockets."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.key = folder / "key"
        self.disk = folder / "disk.qcow2"
        self.console = folder / "console.log"
        self._started = time.monotonic()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", self.disk, "1G"], check=True
        )

    def start(self, *devices: str) -> None:
        """Boots with 128 MB, without KVM, and with these further QEMU arguments."""
        qmp, agent = (f"unix:{self.folder}/qmp,server=on,wait=off", f"path={self.folder}/agent,server=on,wait=off")
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-m", "128", "-nodefaults", "-display", "none"),
                *("-serial", f"file:{self.console}", "-qmp", qmp),
                *("-device", "virtio-serial", "-chardev", f"socket,id=ga,{agent}"),
                *("-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0"),
                *devices,
            ],
        )
        self._started = time.monotonic()

    def card(self, number: int, *, options: str = "") -> tuple[str, ...]:
        """QEMU arguments for network card `number`; card 0 lets ssh in by `port`."""
        forward = f",hostfwd=tcp:127.0.0.1:{self.port}-:22" if number == 0 else ""
        return (
            *("-netdev", f"user,id=n{number},restrict=on{options}{forward}"),
            *("-device", f"virtio-net-pci,netdev=n{number},mac={BASE_MAC}{number}"),
        )

    def said(self) -> str:
        """The console so far."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def wait_for(self, words: str, seconds: float) -> float:
        """Seconds since the start until the console shows `words`."""
        while words not in self.said():
            waited = time.monotonic() - self._started
            assert waited < seconds and self.process.poll() is None, self.said()[-3000:]
            time.sleep(0.1)
        return time.monotonic() - self._started

    def ssh(self, command: str, *, password: str = "") -> str:
        """What the command prints as user cirros, logged in by key, or by password when one is given."""
        how = ("-i", str(self.key), "-o", "BatchMode=yes")
        if password:
            how = ("-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1")
        login = ["ssh", *how, *SSH_OPTIONS, "-p", str(self.port), "cirros@127.0.0.1", command]
        done = subprocess.run(
            ["sshpass", "-e", *login] if password else login,
            env={**os.environ, "SSHPASS": password},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    def ssh_until(self, command: str, words: str, seconds: float = 20) -> str:
        """The command's output once it holds `words`."""
        end = time.monotonic() + seconds
        while words not in (output := self.ssh(command)):
            assert time.monotonic() < end, f"{command} never showed {words}: {output}"
            time.sleep(0.5)
        return output

    @cached_property
    def monitor(self) -> JsonSocket:
        """QEMU's monitor, ready for commands; it takes one client at a time, so all tests use this one."""
        monitor = JsonSocket(self.folder / "qmp")
        monitor.ask("qmp_capabilities")
        return monitor

    def agent(self) -> JsonSocket:
        """The guest agent's port."""
        return JsonSocket(self.folder / "agent")

    def stop(self) -> None:
        """Ends QEMU at once."""
        self.process.kill()
        self.process.wait()


def config_drive(folder: Path, files: dict[str, str]) -> Path:
    """An ISO labelled config-2 with these files."""
    content, drive = folder / "drive", folder / "drive.iso"
    for name, text in files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_text(text)
    subprocess.run(["genisoimage", "-quiet", "-V", "config-2", "-J", "-R", "-o", drive, content], check=True)
    return drive


def metadata_service(folder: Path, answers: dict[str, str]) -> str:
    """A netdev option that answers HTTP at 169.254.169.254 with these texts by path; everything else is 404."""
    content, script = folder / "metadata", folder / "metadata.sh"
    for name, text in answers.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_text(text)
    script.write_text(
        "#!/bin/sh\n"
        "read -r method path version\n"
        'while read -r line && [ "$line" != "$(printf \'\\r\')" ]; do :; done\n'
        f"file={content}/$path\n"
        'if [ -f "$file" ]; then printf \'HTTP/1.0 200 OK\\r\\n\\r\\n\'; cat "$file"\n'
        "else printf 'HTTP/1.0 404 Not Found\\r\\n\\r\\n'; fi\n"
    )
    script.chmod(0o700)
    return f",net=169.254.169.0/24,guestfwd=tcp:169.254.169.254:80-cmd:{script}"
