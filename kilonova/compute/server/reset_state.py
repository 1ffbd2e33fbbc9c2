"""What operators do to a server that is not as it should be: set its state by hand; and extras of older APIs."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from kilonova.base.faults import conflict, invalid
from kilonova.compute.core import Compute
from kilonova.compute.schema import journal
from kilonova.compute.server import addresses, states, store
from kilonova.compute.server.begin import load, new_operation
from kilonova.compute.server.under_way_store import unfinished_operations
from kilonova.db.database import says
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.policy.personas import ADMIN
from kilonova.policy.rules import Rule
from kilonova.saga.journal import OperationRow


class ResetState(msgspec.Struct, forbid_unknown_fields=True):
    """{"os-resetState": {"state": "active" | "error"}}"""

    state: Literal["active", "error"]


async def reset(compute: Compute, request: Request[ResetState]) -> Answer:
    """POST /servers/{id}/action {"os-resetState": …}. What ran on the server is cancelled, and undone meanwhile."""
    server = await load(compute, request)
    row = new_operation(compute, request, "os-resetState", server.id, {"state": request.body.state})
    row.state, row.sealed, row.finished_at = "done", None, row.created_at
    await compute.db.write(_reset, server.id, row)
    return Answer(None)


@says(lambda _id, row: f"servers: vm_state = {row.args['state']}, task_state = None; what ran is cancelled")
def _reset(connection: Connection, server_id: str, row: OperationRow) -> None:
    why = conflict("An operator reset the server's state while this ran.")
    for operation_id, kind in unfinished_operations(connection, server_id):
        if kind == "delete":
            raise conflict(f"Instance {server_id} is being deleted.", hint="It goes on until the server is gone.")
        journal.cancel(connection, operation_id, why, row.created_at)
    now = row.created_at
    values = {"vm_state": states.ERROR, "task_state": "", "operation_id": "", "soft_deleted_at": None}
    if row.args["state"] == "active":
        values["vm_state"] = states.ACTIVE
    store.do_at_once(connection, server_id, "os-resetState", now, values, admin=True)
    journal.insert(connection, row)


async def refresh_network(compute: Compute, request: Request[Any]) -> Answer:
    """{"resetNetwork": null}, {"injectNetworkInfo": null}: addresses as network says; agents see to the rest.

    Today's OpenStack has taken both away; operators who want that too switch `legacy_actions` off.
    """
    if not compute.settings.legacy_actions:
        raise invalid("There is no such action.", hint="The cloud's operator has switched the older actions off.")
    server = await load(compute, request)
    await addresses.refresh(compute, server.id)
    return Answer(None)


_RESET = "os_compute_api:os-admin-actions:reset_state"
_NETWORK = "os_compute_api:os-admin-actions:reset_network"
_INJECT = "os_compute_api:os-admin-actions:inject_network_info"
_ACTION = "/servers/{server_id}/action"
ROUTES = (
    Route(
        method="POST",
        path=_ACTION,
        handler=reset,
        policy=_RESET,
        action="os-resetState",
        body=ResetState,
        success=202,
    ),
    Route(method="POST", path=_ACTION, handler=refresh_network, policy=_NETWORK, action="resetNetwork", success=202),
    Route(
        method="POST", path=_ACTION, handler=refresh_network, policy=_INJECT, action="injectNetworkInfo", success=202
    ),
)
RULES = (
    Rule(_RESET, ADMIN, "Set a server's state by hand", (("POST", f"{_ACTION} (os-resetState)"),)),
    Rule(_NETWORK, ADMIN, "Ask network again for a server's addresses", (("POST", f"{_ACTION} (resetNetwork)"),)),
    Rule(_INJECT, ADMIN, "Ask network again for a server's addresses", (("POST", f"{_ACTION} (injectNetworkInfo)"),)),
)
