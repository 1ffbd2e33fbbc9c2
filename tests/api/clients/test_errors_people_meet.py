"""The errors of docs/guide/errors.md, met on a whole cloud: the sentence, the next step, the log, and nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.clients.conftest import Client
from tests.fake_cloud import ROOT, FakeCloud, fake_cloud, free_port

TOKEN_SECONDS = 8
QCOW2 = b"QFI\xfb\x00\x00\x00\x03" + (104).to_bytes(8, "big") + (11).to_bytes(4, "big") + (16).to_bytes(4, "big")
QCOW2 += (1 << 30).to_bytes(8, "big") + bytes(8)
BACKED = (QCOW2 + bytes(56) + (104).to_bytes(4, "big") + bytes(4)).ljust(104, b"\0")[:104] + b"/etc/passwd"
VMDK = b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 100 FLAT "/etc/passwd" 0\n'


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCloud]:
    """One whose tokens live for seconds."""
    settings = tmp_path_factory.mktemp("settings") / "kilonova.toml"
    settings.write_text(f"[identity]\ntoken_lifetime_seconds = {TOKEN_SECONDS}\n")
    with fake_cloud(tmp_path_factory.mktemp("errors") / "state", "--config", str(settings)) as made:
        yield made


def password_login(url: str, cloud: FakeCloud, **user: str) -> httpx.Response:
    known = cloud.environment(member=True)
    who = {"name": known["OS_USERNAME"], "password": known["OS_PASSWORD"], "domain": {"name": "Default"}} | user
    scope = {"project": {"name": known["OS_PROJECT_NAME"], "domain": {"name": "Default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
    return httpx.post(f"{url}/identity/v3/auth/tokens", json=body)


def log_of(cloud: FakeCloud) -> str:
    return (cloud.state / "log" / "kilonova.log").read_text()


def test_a_wrong_password_and_an_unknown_user_look_the_same(cloud: FakeCloud) -> None:
    told = []
    for user in ({"password": "canary-wrong-password"}, {"name": "nobody-of-that-name"}):
        reply = password_login(cloud.url, cloud, **user)
        assert reply.status_code == 401
        told.append(reply.json()["error"]["message"])
    assert told[0] == told[1] and "requires authentication" in told[0] and "Log in again" in told[0]
    assert "canary-wrong-password" not in log_of(cloud)


def test_an_expired_token(cloud: FakeCloud) -> None:
    token = password_login(cloud.url, cloud).headers["x-subject-token"]
    servers = f"{cloud.url}/compute/v2.1/servers"
    assert httpx.get(servers, headers={"x-auth-token": token}).status_code == 200
    time.sleep(TOKEN_SECONDS + 1)
    reply = httpx.get(servers, headers={"x-auth-token": token})
    assert reply.status_code == 401
    assert "requires authentication" in reply.text and reply.headers["www-authenticate"].startswith("Keystone uri=")


@pytest.mark.parametrize(
    ("format_", "data", "reason", "next_step"),
    [
        ("raw", BACKED, "qcow2", "qemu-img convert"),
        ("qcow2", BACKED, "backing file", "qemu-img convert"),
        ("vmdk", VMDK, "extents", "qemu-img convert"),
        ("qcow2", b"no header at all", "is raw, not qcow2", "Declare it as raw"),
    ],
)
def test_an_image_that_lies_or_points_at_the_hosts_files(
    member: Client, cloud: FakeCloud, tmp_path: Path, format_: str, data: bytes, reason: str, next_step: str
) -> None:
    path = tmp_path / "lie"
    path.write_bytes(data)
    said = member.refused(f"image create --disk-format {format_} --container-format bare --file {path} lie")
    assert "400" in said and "was refused" in said and reason in said and next_step in said
    assert next_step in log_of(cloud)
    assert not [row for row in member("image list") if row["Name"] == "lie" and row["Status"] == "active"]


def test_a_flavor_too_small(member: Client, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(4096))
    member.do(f"image create --disk-format raw --container-format bare --min-ram 4096 --file {path} fat")
    said = member.refused("server create --flavor m1.tiny --image fat --nic none small")
    assert "400" in said and "Flavor's memory is too small" in said and "4096" in said
    assert member("server list") == []


def test_no_host_fits(member: Client, admin: Client, cloud: FakeCloud) -> None:
    admin.do("flavor create --id huge --ram 2000000000 --vcpus 1 --disk 1 huge")
    admin.do("quota set --ram -1 demo")
    made = member("server create --flavor huge --image cirros --nic none huge")
    said = member.until(f"server show {made['id']}", "status", "ERROR")["fault"]["message"]
    assert said.startswith("No valid host was found.") and "2000000000" in said and "node1" not in said
    for_admins = str(admin(f"server show {made['id']}")["fault"])
    assert "node1" in for_admins
    logged = next(line for line in log_of(cloud).splitlines() if "No valid host" in line)
    assert made["id"] in logged and "node1" in logged
    member.do(f"server delete --wait {made['id']}")


def test_a_quota(member: Client, admin: Client) -> None:
    admin.do("quota set --instances 1 demo")
    member.do("server create --flavor m1.tiny --image cirros --nic none --wait one")
    said = member.refused("server create --flavor m1.tiny --image cirros --nic none two")
    assert "403" in said and "Quota exceeded for instances" in said and "1 of 1" in said and "larger quota" in said
    assert [row["Name"] for row in member("server list")] == ["one"]
    member.do("server delete --wait one")
    admin.do("quota set --instances 10 demo")


def test_a_full_disk(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a small file system")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200m,mode=755", "none", str(small)], check=True)
    try:
        with fake_cloud(small / "state") as cloud:
            member = Client(cloud, member=True)
            fill = small / "fill"
            with fill.open("wb") as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            said = member.refused("network create full")
            assert "503" in said and "no room to write" in said and "free disk space" in said
            said = member.refused("server create --flavor m1.tiny --image cirros --nic none full")
            assert "no room to write" in said
            fill.unlink()
            member.do("network create roomy")
            assert {row["Name"] for row in member("network list")} == {"public", "roomy"}
            assert member("server list") == []
    finally:
        deadline = time.monotonic() + 10  # the last of its processes may still be closing its files
        while subprocess.run(["umount", str(small)], check=False).returncode and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not small.is_mount()


def up(state: Path, *words: str, **environment: str) -> tuple[int, str]:
    """(exit code, stderr) of a `kilonova up --detach` that may be refused."""
    command = [sys.executable, "-m", "kilonova.cli.main", "up", "--state", str(state), "--detach", *words]
    around = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=around, check=False)
    return done.returncode, done.stderr


FAKE = ("--hypervisor", "fake", "--network", "fake")


def test_what_up_refuses_leaves_nothing(cloud: FakeCloud, tmp_path: Path) -> None:
    port, state, settings = cloud.url.rpartition(":")[2], tmp_path / "state", tmp_path / "kilonova.toml"
    code, said = up(state, "--listen", f"127.0.0.1:{port}", *FAKE)
    assert (code, said.splitlines()[0]) == (1, f"kilonova up: Port {port} on 127.0.0.1 is in use by another program.")
    assert "--listen" in said
    settings.write_text("[identity]\ntoken_life = 3\n")
    code, said = up(state, "--listen", f"127.0.0.1:{free_port()}", "--config", str(settings), *FAKE)
    assert code == 1 and "Unknown setting identity.token_life." in said and "token_lifetime_seconds" in said
    settings.write_text("[identity\n")
    code, said = up(state, "--listen", f"127.0.0.1:{free_port()}", "--config", str(settings), *FAKE)
    assert code == 1 and "not valid TOML" in said and "line 1" in said
    code, said = up(state, "--hypervisor", "libvirt", PATH=str(tmp_path))
    assert code == 1 and "qemu-system-x86_64 is missing (apt-get install qemu-system-x86)" in said
    assert "--hypervisor fake" in said
    assert not state.exists()
