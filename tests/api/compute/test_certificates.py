"""os-certificates: a certificate for the caller, checked by the authority that the same API shows."""

from __future__ import annotations

import asyncio
import dataclasses

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kilonova.compute.certificate import store
from tests.api.compute.support import Api
from tests.api.support import PROJECT

URL = "/v2.1/os-certificates"


async def test_a_certificate_says_who_its_holder_is_and_is_of_the_authority_shown(api: Api) -> None:
    made = (await api.as_("member").post(URL, None, 200))["certificate"]
    root = (await api.as_("reader").get(f"{URL}/root"))["certificate"]
    assert root["private_key"] is None
    mine, authority = (x509.load_pem_x509_certificate(one["data"].encode()) for one in (made, root))
    mine.verify_directly_issued_by(authority)
    named = {one.oid: one.value for one in mine.subject}
    assert named == {NameOID.COMMON_NAME: "user-member", NameOID.ORGANIZATIONAL_UNIT_NAME: PROJECT}
    uses = mine.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    key = serialization.load_pem_private_key(made["private_key"].encode(), None)
    assert key.public_key() == mine.public_key()


async def test_each_is_new_and_all_are_of_one_authority(api: Api) -> None:
    first, second = [(await api.as_("member").post(URL, {}, 200))["certificate"] for _ in range(2)]
    assert first["private_key"] != second["private_key"]
    roots = [(await api.as_("other").get(f"{URL}/root"))["certificate"]["data"] for _ in range(2)]
    assert roots[0] == roots[1]


async def test_no_key_is_kept_in_clear(api: Api) -> None:
    made = (await api.as_("member").post(URL, None, 200))["certificate"]
    row = await api.compute.db.read(store.find)
    assert row is not None
    assert "PRIVATE KEY" not in repr(row)
    assert made["private_key"] not in repr(row)


async def test_who_may_not_and_what_is_not_there(api: Api) -> None:
    await api.as_("reader").post(URL, None, 403)
    await api.as_("member").get(f"{URL}/x", 404)


async def test_an_operator_switches_it_off_and_the_answer_is_todays(api: Api) -> None:
    api.compute.settings = dataclasses.replace(api.compute.settings, certificates=False)
    await api.as_("member").post(URL, None, 410)
    await api.as_("member").get(f"{URL}/root", 410)


async def test_many_who_ask_first_at_once_get_one_authority(api: Api) -> None:
    roots = await asyncio.gather(*(api.as_("member").get(f"{URL}/root") for _ in range(8)))
    assert len({one["certificate"]["data"] for one in roots}) == 1
