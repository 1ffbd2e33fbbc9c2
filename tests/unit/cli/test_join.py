"""A new host's side of joining: the line, what it may be used for, the files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonova.base.faults import Fault
from kilonova.cli import join
from kilonova.cli.compose.admission import Kept, as_user, shared_settings, vhost_of
from kilonova.cli.settings import ClusterSettings, read_settings
from kilonova.cli.state import Secrets, secrets_of

INVITATION = join.Invitation("http://127.0.0.1:1/identity", "node3", ["compute"], "s" * 43)
KEPT = Kept(
    Secrets(service_passwords={"agent-node3": "p"}, bus_keys={"compute.node3": "00"}),
    {"cluster": {"host": "node3", "brokers": ["amqp://agent-node3:q@mq/"], "endpoints": {"identity": "http://x"}}},
)


def test_an_invitation_is_one_word_and_says_nothing_by_accident() -> None:
    line = INVITATION.encode()
    assert join.Invitation.decode(line) == INVITATION
    assert line.startswith("kn1.")
    assert not set(line) & set(" \n'\"$&")
    assert INVITATION.secret not in repr(INVITATION)


@pytest.mark.parametrize("line", ["", "kn1.", INVITATION.encode()[4:], INVITATION.encode()[:-7], "kn1.e30", "kn1.ü"])
def test_what_is_no_invitation(line: str) -> None:
    with pytest.raises(Fault, match="no invitation"):
        join.Invitation.decode(line)


def test_secrets_do_not_cross_a_network_in_clear(tmp_path: Path) -> None:
    plain = msgspec.structs.replace(INVITATION, url="http://10.0.0.10:5000/identity")
    with pytest.raises(Fault, match="is not encrypted"):
        join.run(plain.encode(), "compute", tmp_path / "etc" / "cluster.toml")
    assert not (tmp_path / "etc").exists()


def test_a_service_that_the_invitation_does_not_name(tmp_path: Path) -> None:
    for service in ("network", "volume-agent", "conductor", "controller"):
        with pytest.raises(Fault, match=f"not as {service}"):
            join.run(INVITATION.encode(), service, tmp_path / "cluster.toml")


def test_a_place_that_cannot_be_written_is_told_before_the_invitation_is_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Fault, match="cannot be written"):
        join.run(INVITATION.encode(), "compute", tmp_path / "file" / "cluster.toml")


def test_a_wrong_settings_file_is_told_before_the_invitation_is_used(tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text("[cluster]\nhots = 1\n")
    with pytest.raises(Fault, match="Unknown setting"):
        join.run(INVITATION.encode(), "compute", tmp_path / "cluster.toml")


def test_what_is_kept_is_what_services_read(tmp_path: Path) -> None:
    files = join.Files.of(tmp_path / "etc" / "cluster.toml")
    own: dict[str, Any] = {
        "log": {"level": "DEBUG"},
        "cluster": {"host_ip": "10.0.0.9", "brokers": ["amqp://guest:guest@x/"], "endpoints": {"volume": "http://v"}},
    }
    for path in join.keep(KEPT, files, own, ""):
        assert path.stat().st_mode & 0o777 == 0o600
    settings = read_settings(str(files.config))
    assert settings.log.level == "DEBUG"
    assert settings.cluster.host_ip == "10.0.0.9"
    assert settings.cluster.brokers == ("amqp://agent-node3:q@mq/",), "an older broker user does not stay"
    assert settings.cluster.endpoints == {"identity": "http://x", "volume": "http://v"}
    assert secrets_of(Path(settings.cluster.secrets)) == KEPT.secrets


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"))
tables: Any = st.recursive(
    st.dictionaries(words, words | st.integers(-(2**62), 2**62) | st.booleans() | st.lists(words)),
    lambda below: st.dictionaries(words, below),
    max_leaves=6,
)


@given(tables)
def test_toml_says_the_same_when_it_is_read(table: dict[str, Any]) -> None:
    def without_empty(value: dict[str, Any]) -> dict[str, Any]:
        cleared = {k: without_empty(v) if isinstance(v, dict) else v for k, v in value.items()}
        return {k: v for k, v in cleared.items() if v != {}}

    assert tomllib.loads(join.toml_of(table)) == without_empty(table)


def test_what_of_the_settings_is_shared() -> None:
    whole = ClusterSettings(
        url="https://cloud", database="postgresql://u:secret@db/{service}", secrets="/x", user="kilonova", host_ip="1"
    )
    assert shared_settings(whole) == {"url": "https://cloud"}


def test_a_broker_url_for_somebody_else() -> None:
    assert (
        as_user("amqps://a:b@mq.example:5671/cloud", "agent-n", "p/w") == "amqps://agent-n:p%2Fw@mq.example:5671/cloud"
    )
    assert [vhost_of(f"amqp://mq/{path}") for path in ("", "%2F", "cloud")] == ["/", "/", "cloud"]
