"""Nothing secret in logs at any level, nor readable in the database."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import sqlalchemy as sa

from kilonova.identity.schema import metadata
from tests.api.identity.support import Cloud, demo, project
from tests.api.support import ApiClient, api_client
from tests.attacks.identity.signing import signed_2

CANARY = "canary-7f3a"


def _dump(connection: sa.Connection) -> str:
    return repr([tuple(row) for table in metadata.sorted_tables for row in connection.execute(sa.select(table))])


async def test_canary_secrets_are_in_no_log_and_in_no_row(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    admin = await cloud.admin()
    user = {"name": "x", "password": f"{CANARY}-password"}
    made = (await admin.post("/v3/users", {"user": user}, 201))["user"]["id"]
    await cloud.try_login("x", f"{CANARY}-wrong")
    await cloud.login("x", f"{CANARY}-password")
    change = {"user": {"original_password": f"{CANARY}-password", "password": f"{CANARY}-next"}}
    await api_client(cloud.app, "").post(f"/v3/users/{made}/password", change, 204)
    mine, me = await demo(cloud), cloud.made.user_ids["demo"]
    body: dict[str, Any] = {"application_credential": {"name": "a", "secret": f"{CANARY}-secret"}}
    await mine.post(f"/v3/users/{me}/application_credentials", body, 201)
    blob = json.dumps({"access": "access", "secret": f"{CANARY}-ec2"})
    credential = {"type": "ec2", "blob": blob, "user_id": me, "project_id": cloud.made.project_id}
    await mine.post("/v3/credentials", {"credential": credential}, 201)
    nova = ApiClient(cloud.app, await cloud.login("nova", "n" * 43, project("service")))
    for secret in (f"{CANARY}-ec2", f"{CANARY}-bad"):
        await nova.send("POST", "/v3/ec2tokens", {"credentials": signed_2("access", secret)})
    config = {"ldap": {"url": "ldap://x", "password": f"{CANARY}-ldap"}}
    await admin.put("/v3/domains/default/config", {"config": config}, 201)
    for path in ("/v3/users", "/v3/auth/tokens", "/v3/credentials"):  # a fault must not quote the body
        await admin.send("POST", path, {"user": f"{CANARY}-body", "auth": f"{CANARY}-body", "credential": 5})
    assert CANARY not in caplog.text and mine._token not in caplog.text
    assert CANARY not in await cloud.service.db.read(_dump)
    assert CANARY not in repr(cloud.plan) and "n" * 43 not in repr(cloud.plan)
