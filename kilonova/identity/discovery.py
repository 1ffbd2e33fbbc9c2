"""What a client finds before it logs in: the versions of the Identity API, and its home document (JSON Home)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kilonova.http.request import Answer, Request
from kilonova.http.route import Route

if TYPE_CHECKING:
    from kilonova.identity.core import IdentityService

HOME = "application/json-home"
_DOCS = "https://docs.openstack.org/api/openstack-identity/3"
_OPEN = "clients look for versions before they log in"
_NAMES = {  # where the field's name of a resource does not follow from its path
    "/v3/users/{user_id}/password": "user_change_password",
    "/v3/roles/{prior_role_id}/implies": "implied_roles",
    "/v3/roles/{prior_role_id}/implies/{implied_role_id}": "implied_role",
    "/v3/users/{user_id}/credentials/OS-EC2/{access}": "user_credential",
    "/v3/limits/model": "limit_model",
    "/v3/domains/config/default": "domain_config_default",
    "/v3/domains/config/{group}/default": "domain_config_default_group",
    "/v3/domains/config/{group}/{option}/default": "domain_config_default_option",
    "/v3/domains/{domain_id}/config/security_compliance": "domain_config_security_compliance",
    "/v3/domains/{domain_id}/config/security_compliance/{option}": "domain_config_security_compliance_option",
    "/v3/domains/{domain_id}/config/{group}": "domain_config_group",
    "/v3/domains/{domain_id}/config/{group}/{option}": "domain_config_option",
}


def _singular(word: str) -> str:
    return f"{word[:-3]}y" if word.endswith("ies") else word.removesuffix("s")


def _template(path: str) -> str:
    """The path with the field's names of its parameters: `/v3/users/{user_id}`."""
    made: list[str] = []
    for part in path.split("/"):
        if part in ("{actor_id}", "{scope_id}"):  # routes that are the same for users and groups, projects and domains
            part = f"{{{_singular(made[-1])}_id}}"
        made.append({"{prior_id}": "{prior_role_id}", "{implied_id}": "{implied_role_id}"}.get(part, part))
    return "/".join(made)


def _relation(template: str) -> str:
    """The URI that names the resource at a path."""
    parts = template.removeprefix("/v3/").split("/")
    extension = next((part for part in parts if part.startswith("OS-")), "")
    base = f"{_DOCS}/ext/{extension}/1.0/rel" if extension else f"{_DOCS}/rel"
    words = [
        _singular(part) if parts[index + 1 : index + 2] and parts[index + 1].startswith("{") else part
        for index, part in enumerate(parts)
        if not part.startswith(("{", "OS-"))
    ]
    return f"{base}/{_NAMES.get(template) or '_'.join(words)}"


def home_of(paths: Iterable[str], prefix: str) -> dict[str, Any]:
    """The home document: by relation, where each resource is; hrefs begin with `prefix` instead of /v3."""
    resources: dict[str, Any] = {}
    for template in sorted({_template(path) for path in paths}):
        href = prefix + template.removeprefix("/v3")
        names = [part[1:-1] for part in template.split("/") if part.startswith("{")]
        resources[_relation(template)] = (
            {"href-template": href, "href-vars": {name: f"{_DOCS}/param/{name}" for name in names}}
            if names
            else {"href": href}
        )
    return {"resources": resources}


def _version(request: Request[Any]) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{request.origin}/v3/"}],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"},
        ],
    }


def discovery(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes of discovery, about `routes`."""
    paths = [route.path for route in routes if not route.path.startswith("/v3/kilonova")]
    at_root, at_v3 = home_of(paths, "/v3"), home_of(paths, "")

    def wants_home(request: Request[None]) -> bool:
        return HOME in request.headers.get("accept", "")

    async def versions(service: IdentityService, request: Request[None]) -> Answer:
        """The versions of the Identity API that are spoken here: one."""
        if wants_home(request):
            return Answer(at_root, content_type=HOME)
        shown = {"versions": {"values": [_version(request)]}}
        return Answer(shown, 300, {"Location": f"{request.origin}/v3/", "Vary": "X-Auth-Token"})

    async def version(service: IdentityService, request: Request[None]) -> Answer:
        """Version 3, where it is and what it is called."""
        if wants_home(request):
            return Answer(at_v3, content_type=HOME)
        return Answer({"version": _version(request)})

    return (
        Route(method="GET", path="/", handler=versions, needs_token=False, open_because=_OPEN),
        Route(method="GET", path="/v3", handler=version, needs_token=False, open_because=_OPEN),
    )
