"""What is done inside a guest of this host, or asked about it: password, interrupt, use."""

from __future__ import annotations

from kilonova.base.faults import conflict
from kilonova.compute.contract import GuestUse
from kilonova.node.agents.compute.core import HostCore
from kilonova.trace import spans

ADMINISTRATOR = "root"


class InsideVerbs(HostCore):
    """The guest's own agent does what it can; the hypervisor counts."""

    async def guest_agent_answers(self, server_id: str) -> bool:
        return await self.machine.hypervisor.guest_agent_answers(server_id)

    async def set_password(self, server_id: str) -> None:
        server = await self._record(server_id)
        password = (await self._secrets()).admin_password
        if not password:
            raise conflict("The new password is not known any more.", hint="Ask again.")
        windows = server.image_properties.get("os_type") == "windows"
        user = server.image_properties.get("os_admin_user") or ("Administrator" if windows else ADMINISTRATOR)
        with spans.span("libvirt", "have the guest's agent set the password", host=self.host):
            await self.machine.hypervisor.set_password(server_id, user, password)

    async def get_diagnostics(self, server_id: str) -> GuestUse:
        return await self.machine.hypervisor.use(server_id)

    async def trigger_crash_dump(self, server_id: str) -> None:
        with spans.span("libvirt", "inject a non-maskable interrupt", host=self.host):
            await self.machine.hypervisor.inject_nmi(server_id)
