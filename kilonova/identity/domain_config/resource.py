"""Domain configuration over HTTP: all of it, a group, or an option. Secret options are written and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.faults import Fault, Kind, conflict
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.identity import answers
from kilonova.identity.domain.resource import DOMAINS
from kilonova.identity.domain_config import store as option_store
from kilonova.identity.domain_config.options import DEFAULTS, Config, check_place, checked, is_directory, public
from kilonova.identity.ldap.store import has_its_own
from kilonova.identity.rules import ADMIN, ANYWHERE, READER, SYSTEM_OR_PROJECT, rule

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService


class ConfigBody(msgspec.Struct):
    """{"config": {"ldap": {"url": …}}}"""

    config: dict[str, Any]


Place = tuple[str | None, str | None]


async def read_config(service: IdentityService, domain_id: str) -> Config:
    """What is configured for the domain, with its secrets: for drivers, not for clients."""
    config: Config = {}
    for (group, option), sealed in (await service.db.read(option_store.read, domain_id)).items():
        config.setdefault(group, {})[option] = service.sealer.open(sealed)["value"]
    return config


async def _place(service: IdentityService, request: Request[Any]) -> tuple[str, Place]:
    """The domain and what of its options the path names."""
    request.enforce({})
    domain_id, group, option = (request.path.get(key) for key in ("domain_id", "group", "option"))
    assert domain_id is not None
    if await DOMAINS.find(service, domain_id) is None:
        raise answers.missing("domain", domain_id)
    check_place(group, option)
    return domain_id, (group, option)


def _part(config: Config, place: Place, missing: Fault) -> dict[str, Any]:
    """The answer about a part of a configuration."""
    group, option = place
    if group is None:
        found: Any = config
    elif option is None:
        found = {group: config[group]} if group in config else None
    else:
        found = {option: config[group][option]} if option in config.get(group, {}) else None
    if not found:
        raise missing
    return {"config": found}


def _none(domain_id: str, place: Place) -> Fault:
    what = " ".join(part for part in place if part) or "any"
    return Fault(Kind.NOT_FOUND, f"Could not find domain configuration for domain {domain_id}: {what}.")


async def show(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """What is configured for the domain."""
    domain_id, place = await _place(service, request)
    return _part(public(await read_config(service, domain_id)), place, _none(domain_id, place))


async def create(service: IdentityService, request: Request[ConfigBody]) -> Answer:
    """This configuration, instead of any before. 201 when there was none."""
    domain_id, _ = await _place(service, request)
    config = checked(request.body.config)
    await _check_empty(service, domain_id, config)
    before = await service.change(option_store.replace, domain_id, _sealed(service, config))
    return Answer({"config": public(await read_config(service, domain_id))}, 200 if before else 201)


async def _check_empty(service: IdentityService, domain_id: str, config: Config) -> None:
    """CONFLICT when a domain that has users or groups of its own shall get them from a directory."""
    if is_directory(config) and await service.db.read(has_its_own, domain_id):
        raise conflict(
            "The domain has users, groups or identity providers of its own: those of a directory (LDAP) would meet "
            "them.",
            hint="Make a new domain for the directory.",
        )


async def update(service: IdentityService, request: Request[ConfigBody]) -> dict[str, Any]:
    """Change some options; of a group or option that the path names, which must be there."""
    domain_id, place = await _place(service, request)
    config = checked(request.body.config, *place)
    await _check_empty(service, domain_id, config)
    if place[0] is not None:
        _part(await read_config(service, domain_id), place, _none(domain_id, place))
    await service.change(option_store.write, domain_id, _sealed(service, config))
    return {"config": public(await read_config(service, domain_id))}


def _sealed(service: IdentityService, config: Config) -> option_store.Sealed:
    return {
        (group, option): service.sealer.seal({"value": value})
        for group, options in config.items()
        for option, value in options.items()
    }


async def delete(service: IdentityService, request: Request[None]) -> None:
    """What was configured for the domain: from now on it has what all have."""
    domain_id, place = await _place(service, request)
    if not await service.change(option_store.delete, domain_id, *place):
        raise _none(domain_id, place)


async def show_default(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """What a domain has for which nothing is configured."""
    request.enforce({})
    group, option = request.path.get("group"), request.path.get("option")
    check_place(group, option)
    if group is not None and option is not None:
        return {"config": {option: DEFAULTS[group].get(option)}}
    return _part(DEFAULTS, (group, None), _none("default", (group, None)))


def _compliance(service: IdentityService) -> dict[str, Any]:
    settings = service.settings
    return {
        "password_regex": settings.password_regex or None,
        "password_regex_description": settings.password_regex_description or None,
    }


async def show_compliance(service: IdentityService, request: Request[None]) -> dict[str, Any]:
    """What passwords must look like: for whoever has to choose one."""
    request.enforce({})
    option = request.path.get("option")
    known = _compliance(service)
    if option is None:
        return {"config": {"security_compliance": known}}
    if option not in known:
        raise Fault(Kind.FORBIDDEN, f"Option {option[:60]} of security_compliance is not shown.")
    return {"config": {option: known[option]}}


_PATH = "/v3/domains/{domain_id}/config"
_DEFAULT = "/v3/domains/config"
_COMPLIANCE = f"{_PATH}/security_compliance"
_PLACES = (_PATH, f"{_PATH}/{{group}}", f"{_PATH}/{{group}}/{{option}}")
_DEFAULTS = (f"{_DEFAULT}/default", f"{_DEFAULT}/{{group}}/default", f"{_DEFAULT}/{{group}}/{{option}}/default")
_SHOWN = "get_security_compliance_domain_config"
ROUTES: tuple[Route, ...] = (
    Route(method="PUT", path=_PATH, handler=create, policy="identity:create_domain_config", body=ConfigBody),
    *(Route(method="GET", path=path, handler=show, policy="identity:get_domain_config") for path in _PLACES),
    *(
        Route(method="PATCH", path=path, handler=update, policy="identity:update_domain_config", body=ConfigBody)
        for path in _PLACES
    ),
    *(
        Route(method="DELETE", path=path, handler=delete, policy="identity:delete_domain_config", success=204)
        for path in _PLACES
    ),
    *(
        Route(method="GET", path=path, handler=show_default, policy="identity:get_domain_config_default")
        for path in _DEFAULTS
    ),
    *(
        Route(method="GET", path=path, handler=show_compliance, policy=f"identity:{_SHOWN}")
        for path in (_COMPLIANCE, f"{_COMPLIANCE}/{{option}}")
    ),
)
RULES = (
    rule("create_domain_config", ADMIN, SYSTEM_OR_PROJECT, ("PUT", _PATH)),
    rule("get_domain_config", READER, SYSTEM_OR_PROJECT, *(("GET", path) for path in _PLACES)),
    rule("get_domain_config_default", READER, SYSTEM_OR_PROJECT, *(("GET", path) for path in _DEFAULTS)),
    rule(_SHOWN, "", ANYWHERE, ("GET", _COMPLIANCE), ("GET", f"{_COMPLIANCE}/{{option}}")),
    rule("update_domain_config", ADMIN, SYSTEM_OR_PROJECT, *(("PATCH", path) for path in _PLACES)),
    rule("delete_domain_config", ADMIN, SYSTEM_OR_PROJECT, *(("DELETE", path) for path in _PLACES)),
)
