"""`kilonova ca`: an authority made once, certificates issued, renewed, shown."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from kilonova.base.faults import Fault
from kilonova.cli.ca import expiring
from kilonova.cli.main import main
from kilonova.pki import authority as pki
from kilonova.pki.contexts import Tls

NOW = datetime.now(UTC)


def ca(directory: Path, *words: str) -> int:
    return main(["ca", *words, "--directory", str(directory)])


def test_a_certificate_for_a_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = tmp_path / "ca"
    assert ca(at, "init") == 0
    assert ca(at, "issue", "ctl1", "--address", "10.0.0.10", "--address", "cloud.example") == 0
    assert stat.S_IMODE((at / "ca.key").stat().st_mode) == stat.S_IMODE((at / "ctl1.key").stat().st_mode) == 0o600
    assert pki.names_of((at / "ctl1.pem").read_text()) == ["ctl1", "10.0.0.10", "cloud.example"]
    Tls(str(at / "ca.pem"), str(at / "ctl1.pem"), str(at / "ctl1.key"))
    capsys.readouterr()
    assert ca(at, "show") == 0
    shown = capsys.readouterr().out
    assert pki.fingerprint((at / "ca.pem").read_text()) in shown
    assert "ctl1, 10.0.0.10, cloud.example" in shown


def test_a_second_authority_does_not_take_the_firsts_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ca(tmp_path, "init")
    before = (tmp_path / "ca.key").read_text()
    assert ca(tmp_path, "init") == 1
    assert "already" in capsys.readouterr().err
    assert (tmp_path / "ca.key").read_text() == before


def test_renewed_for_the_same_names_with_another_key(tmp_path: Path) -> None:
    ca(tmp_path, "init")
    ca(tmp_path, "issue", "node1", "--address", "10.0.0.31", "--days", "9")
    before = [(tmp_path / name).read_text() for name in ("node1.pem", "node1.key")]
    assert ca(tmp_path, "show") == 1, "it ends within a month"
    assert ca(tmp_path, "renew", "node1") == 0
    after = [(tmp_path / name).read_text() for name in ("node1.pem", "node1.key")]
    assert pki.names_of(after[0]) == pki.names_of(before[0]) == ["node1", "10.0.0.31"]
    assert not set(before) & set(after)
    assert ca(tmp_path, "show") == 0


@pytest.mark.parametrize(
    "words", [("issue", ""), ("issue", "../x"), ("issue", "ca"), ("issue", "a", "--address", "b c"), ("renew", "n")]
)
def test_what_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    ca(tmp_path, "init")
    assert ca(tmp_path, *words) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.key", "ca.pem"]


def test_a_key_that_others_may_read_signs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ca(tmp_path, "init")
    (tmp_path / "ca.key").chmod(0o640)
    assert ca(tmp_path, "issue", "node1") == 1
    assert "chmod 600" in capsys.readouterr().err


def test_doctor_tells_a_month_before(tmp_path: Path) -> None:
    authority = pki.new_authority("x", NOW)
    file = tmp_path / "host.pem"
    file.write_text(pki.issue_for_host(authority, ["x"], NOW, 40).certificate)
    assert expiring(file, NOW) == ""
    assert "expires on" in expiring(file, NOW + timedelta(days=20))
    assert "expired on" in expiring(file, NOW + timedelta(days=41))
    assert "cannot be read" in expiring(tmp_path / "none", NOW)


def test_nothing_outlives_its_authority_and_no_host_signs_others() -> None:
    authority = pki.new_authority("x", NOW, 100)
    host = pki.issue_for_host(authority, ["x"], NOW)
    assert pki.read(host.certificate).not_valid_after_utc <= pki.read(authority.certificate).not_valid_after_utc
    assert not pki.read(host.certificate).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(Fault, match="expired"):
        pki.issue_for_host(authority, ["y"], NOW + timedelta(days=101))


def test_a_request_is_signed_for_whom_we_say_not_for_whom_it_says() -> None:
    authority = pki.new_authority("x", NOW)
    request, key = pki.certificate_request(["api.example"])
    made = pki.certify_host(authority, pki.requested_key(request), ["node1"], NOW)
    assert pki.names_of(made) == ["node1"]
    assert "PRIVATE KEY" in key
    other, _ = pki.certificate_request(["api.example"])
    forged = request.splitlines()[:3] + other.splitlines()[3:]
    with pytest.raises(Fault, match="certificate request"):
        pki.requested_key("\n".join(forged))


def test_old_tls_is_not_spoken() -> None:
    assert Tls().client.minimum_version == ssl.TLSVersion.TLSv1_2
    assert Tls().client.check_hostname
