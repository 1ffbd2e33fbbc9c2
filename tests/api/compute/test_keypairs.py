"""Key pairs: made, brought, listed, limited; per user."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kilonova.compute.quota import store as quota
from tests.api.compute.support import Api
from tests.api.support import PROJECT

URL = "/v2.1/os-keypairs"
OLD_RSA = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDx8nkQv/zgGgB4rMYmIf+6A4l6Rr+o/6lHBQdW5aYd44bd8JttDCE/F/pNRr0lRE+PiqSPO8nD"
    "PHw0010JeMH9gYgnnFlyY3/OcJ02RhIPyyxYpv9FhY+2YiUkpwFOcLImyrxEsYXpD/0d3ac30bNH6Sw9JD9UZHYcpSxsIbECHw== somebody"
)


def opened(key: Any) -> str:
    form = serialization.PublicFormat.OpenSSH
    return str(key.public_key().public_bytes(serialization.Encoding.OpenSSH, form).decode())


ED25519 = opened(ed25519.Ed25519PrivateKey.generate())
ECDSA = opened(ec.generate_private_key(ec.SECP256R1()))


def body(name: str, **more: Any) -> dict[str, Any]:
    return {"keypair": {"name": name, **more}}


async def bring(api: Api, name: str, token: str = "member", key: str = ED25519) -> dict[str, Any]:
    made = await api.as_(token, "2.2").post(URL, body(name, public_key=key), 201)
    return dict(made["keypair"])


async def test_a_key_that_is_made_fits_its_public_half(api: Api) -> None:
    made = (await api.as_("member").post(URL, body("mine"), 200))["keypair"]
    assert set(made) == {"name", "public_key", "private_key", "fingerprint", "user_id"}
    private = serialization.load_pem_private_key(made["private_key"].encode(), None)
    assert opened(private) == made["public_key"].rsplit(" ", 1)[0]
    shown = (await api.as_("member").get(f"{URL}/mine"))["keypair"]
    assert "private_key" not in shown and shown["public_key"] == made["public_key"]
    assert {"id", "deleted", "created_at", "updated_at", "deleted_at", "user_id"} <= set(shown)


async def test_a_certificate_for_windows_guests(api: Api) -> None:
    made = (await api.as_("member", "2.2").post(URL, body("cert", type="x509"), 201))["keypair"]
    certificate = x509.load_pem_x509_certificate(made["public_key"].encode())
    private = serialization.load_pem_private_key(made["private_key"].encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey) and opened(private).split()[0] == "ssh-rsa"
    assert certificate.public_key() == private.public_key() and made["type"] == "x509"
    again = await api.as_("member", "2.2").post(URL, body("b", type="x509", public_key=made["public_key"]), 201)
    assert again["keypair"]["fingerprint"] == made["fingerprint"] and len(made["fingerprint"]) == 59


@pytest.mark.parametrize("key", [ED25519, ECDSA, OLD_RSA], ids=["ed25519", "ecdsa", "rsa"])
async def test_every_kind_of_ssh_key_can_be_brought(api: Api, key: str) -> None:
    made = await bring(api, "mine", key=key)
    assert made["public_key"] == key and "private_key" not in made and len(made["fingerprint"]) == 47


async def test_the_fingerprint_is_the_one_that_ssh_tools_show(api: Api) -> None:
    assert (await bring(api, "mine", key=OLD_RSA))["fingerprint"] == "1e:2c:9b:56:79:4b:45:77:f9:ca:7a:98:2c:b0:d5:3c"


@pytest.mark.parametrize(
    ("version", "asked"),
    [
        ("2.1", {"name": "a.b"}), ("2.91", {"name": "a@b"}), ("2.92", {"name": "a/b", "public_key": ED25519}),
        ("2.1", {"name": ""}), ("2.1", {"name": "a" * 256}), ("2.1", {"name": " a"}), ("2.1", {"name": "ключ"}),
        ("2.92", {"name": "none"}), ("2.1", {"name": "a", "public_key": "ssh-rsa JUNK"}), ("2.1", {}),
        ("2.1", {"name": "a", "public_key": ""}), ("2.1", {"name": "a", "type": "ssh"}),
        ("2.2", {"name": "a", "type": "pgp"}), ("2.2", {"name": "a", "type": "x509", "public_key": ED25519}),
        ("2.9", {"name": "a", "user_id": "user-member"}), ("2.1", {"name": "a", "colour": "red"}),
    ],
)  # fmt: skip
async def test_what_is_refused(api: Api, version: str, asked: dict[str, Any]) -> None:
    await api.as_("member", version).post(URL, {"keypair": asked}, 400)
    assert (await api.as_("member").get(URL))["keypairs"] == []


async def test_names_of_2_92(api: Api) -> None:
    name = "me.and.myself@this.nice.domain.com mooh."
    await api.as_("member", "2.92").post(URL, body(name, public_key=ED25519), 201)
    shown = await api.as_("member", "2.92").get(f"{URL}/{name.replace(' ', '%20')}")
    assert shown["keypair"]["name"] == name


async def test_key_pairs_belong_to_users(api: Api) -> None:
    await bring(api, "mine")
    await bring(api, "mine", "other")
    await api.as_("member", "2.2").post(URL, body("mine", public_key=ED25519), 409)
    await api.as_("reader").get(f"{URL}/mine", 404)
    await api.as_("reader").delete(f"{URL}/mine", 404)
    await api.as_("reader", "2.10").get(f"{URL}?user_id=user-member", 403)
    await api.as_("reader", "2.10").delete(f"{URL}/mine?user_id=user-member", 403)
    admin = api.as_("admin", "2.10")
    assert len((await admin.get(f"{URL}?user_id=user-member"))["keypairs"]) == 1
    await admin.post(URL, body("gift", public_key=ED25519, user_id="user-member"), 201)
    assert (await api.as_("member").get(f"{URL}/gift"))["keypair"]["user_id"] == "user-member"
    await admin.delete(f"{URL}/mine?user_id=user-member", 204)
    await api.as_("member").get(f"{URL}/mine", 404)
    assert (await api.as_("other").get(f"{URL}/mine"))["keypair"]["name"] == "mine"
    await api.as_("").get(URL, 401)


async def test_lists_and_pages(api: Api) -> None:
    for name in ("c", "a", "b"):
        await bring(api, name)
    old = await api.as_("member", "2.1").get(f"{URL}?limit=1")
    assert [one["keypair"]["name"] for one in old["keypairs"]] == ["a", "b", "c"] and "keypairs_links" not in old
    assert set(old["keypairs"][0]["keypair"]) == {"name", "public_key", "fingerprint"}
    new = api.as_("member", "2.35")
    page = await new.get(f"{URL}?limit=2")
    assert [one["keypair"]["name"] for one in page["keypairs"]] == ["a", "b"]
    href = page["keypairs_links"][0]["href"]
    assert [one["keypair"]["name"] for one in (await new.get(href[href.index("/v2.1") :]))["keypairs"]] == ["c"]
    await new.get(f"{URL}?marker=nothing", 400)


async def test_deleting_answers_as_its_version_says(api: Api) -> None:
    await bring(api, "a")
    await bring(api, "b")
    await api.as_("member", "2.1").delete(f"{URL}/a", 202)
    await api.as_("member", "2.2").delete(f"{URL}/b", 204)
    await api.as_("member", "2.2").delete(f"{URL}/b", 404)


async def test_the_quota_of_key_pairs(api: Api) -> None:
    await api.compute.db.write(quota.change, "project", PROJECT, "", {"key_pairs": 1})
    await bring(api, "a")
    refused = await api.as_("member", "2.2").post(URL, body("b", public_key=ED25519), 403)
    assert "too many key pairs" in refused["forbidden"]["message"]
    await api.as_("member", "2.2").delete(f"{URL}/a", 204)
    await bring(api, "b")
    await bring(api, "b", "reader")
