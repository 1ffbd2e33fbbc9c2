"""POST /v2/images/{id}/import: which data, from where, into which stores."""

from __future__ import annotations

import msgspec

from kilonova.base.faults import conflict, forbidden, invalid
from kilonova.base.ids import is_uuid
from kilonova.http.request import Answer, Request
from kilonova.http.route import Route
from kilonova.image.core import ImageService
from kilonova.image.image.locations import may_be_added
from kilonova.image.image.resource import owned, seen, target
from kilonova.image.image.store import Image
from kilonova.image.importing.begin import import_image, new_task
from kilonova.image.importing.plan import COPY, DIRECT, REGION, STATUS, WEB, Plan
from kilonova.policy.rules import Rule


class Method(msgspec.Struct, forbid_unknown_fields=True):
    """How the data comes."""

    name: str
    uri: str = ""
    glance_image_id: str = ""
    glance_region: str = ""
    glance_service_interface: str = "public"


class Import(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    method: Method
    stores: list[str] | None = None
    all_stores: bool = False
    all_stores_must_succeed: bool = True


async def import_(service: ImageService, request: Request[Import]) -> Answer:
    image = await seen(service, request)
    body, method = request.body, request.body.method
    if method.name not in service.settings.import_methods:
        raise invalid(
            f"Unknown import method name '{method.name[:40]}'.",
            hint=f"This cloud has {', '.join(service.settings.import_methods)}.",
        )
    if method.name == COPY:
        request.enforce(target(image), "copy_image")
    else:
        request.enforce(target(image))
        owned(request, image)
    if not image.disk_format or not image.container_format:
        raise invalid("Properties disk_format, container_format must be set on image before import.")
    if image.status != STATUS[method.name]:
        raise conflict(f"Image needs to be in {STATUS[method.name]} state to be imported by {method.name}; "
                       f"it is {image.status}.")  # fmt: skip
    stores = _stores(service, request, image)
    await _check_method(service, method)
    if method.name == COPY and not stores:
        return Answer(None, 202)  # every store that was asked for has it
    wanted = {} if method.name == COPY else {"image_size_total": 0}
    if method.name in (WEB, REGION):
        wanted["image_count_uploading"] = 1
    said = {"image_id": image.id, "import_req": msgspec.to_builtins(body), "backend": stores}
    task = new_task(service, request, "api_image_import", image, said)
    plan = Plan(
        method=method.name,
        task_id=task.id,
        stores=stores,
        all_must_succeed=body.all_stores_must_succeed,
        uri=method.uri,
        source_image_id=method.glance_image_id,
        region=method.glance_region,
        interface=method.glance_service_interface,
        inject={} if method.name == COPY else service.injected(request),
    )
    await import_image(service, request, image, plan, task, wanted)
    return Answer(None, 202)


def _stores(service: ImageService, request: Request[Import], image: Image) -> list[str]:
    """Where the data goes, the heaviest store first; a copy leaves out those that have it."""
    body = request.body
    named = request.headers.get("x-image-meta-store", "")
    if body.all_stores and (body.stores or named):
        raise invalid("Stores cannot be named when all_stores is true.", hint="Send one of the two.")
    if body.all_stores:
        wanted = [store.id for store in service.stores.writable]
    else:
        names = dict.fromkeys(body.stores or ([named] if named else [service.stores.default.id]))
        wanted = service.stores.in_order(service.stores.to_write(name).id for name in names)
    if body.method.name != COPY:
        return wanted
    there = set(service.stores.in_order(place.store for place in image.places))
    again = [name for name in wanted if name in there]
    if again and not body.all_stores:
        raise invalid(f"Image is already present at store {again[0]!r}.")
    return [name for name in wanted if name not in there]


async def _check_method(service: ImageService, method: Method) -> None:
    """What can be known to be wrong before anything is recorded."""
    if method.name == WEB:
        if not method.uri:
            raise invalid("URI is required if using 'web-download' import method.")
        await may_be_added(service, method.uri)
    elif method.uri:
        raise invalid(f"Import method {method.name} takes no uri.")
    if method.name == REGION:
        if not method.glance_image_id or not method.glance_region:
            raise invalid("Specifying glance_image_id and glance_region is required for glance-download.")
        if not is_uuid(method.glance_image_id):
            raise invalid("The remote image id does not look like a UUID.")
    if method.name == DIRECT and method.glance_image_id:
        raise forbidden("glance-direct takes staged data only.")


_IMPORT = "/v2/images/{image_id}/import"
RULES = (Rule("copy_image", "rule:context_is_admin", "Copy an image to more stores.", (("POST", _IMPORT),)),)
ROUTES = (Route(method="POST", path=_IMPORT, handler=import_, policy="modify_image", body=Import),)
