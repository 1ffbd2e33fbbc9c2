"""`kilonova could-boot COUNT FLAVOR`: would so many servers fit, where, and what stops the next. Claims nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from kilonova.base.faults import invalid, not_found
from kilonova.cli.admin import Admin
from kilonova.cli.explain import left, rejected, table


def run(options: argparse.Namespace) -> int:
    """0 when all fit, 1 when not."""
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    admin = Admin.of(options)
    try:
        asked = {
            "flavor": await _flavor(admin, options.flavor),
            "count": options.count,
            "availability_zone": options.zone,
            "host": options.on,
            "image": await _image(admin, options.image) if options.image else "",
            "scheduler_hints": dict(_pair(one) for one in options.hint),
        }
        answer = (await admin.ask("POST", "/compute/v2.1/os-scheduler-dry-run", {"dry_run": asked}))["dry_run"]
    finally:
        await admin.close()
    print(json.dumps(answer, indent=2) if options.json else "\n".join(_lines(answer, options.flavor)))
    return 0 if answer["fits"] == answer["count"] else 1


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise invalid(f"--hint {text} is no hint.", hint="Write it as NAME=VALUE, such as group=ID.")
    return name, value


async def _flavor(admin: Admin, name: str) -> str:
    found = await admin.all("/compute/v2.1/flavors/detail?is_public=none", "flavors")
    for one in found:
        if name in (one["id"], one["name"]):
            return str(one["id"])
    raise not_found("Flavor", name)


async def _image(admin: Admin, name: str) -> str:
    for one in await admin.all("/image/v2/images?sort=id", "images"):
        if name in (one["id"], one["name"]):
            return str(one["id"])
    raise not_found("Image", name)


def _lines(answer: dict[str, Any], flavor: str) -> list[str]:
    fits, count = answer["fits"], answer["count"]
    lines = [f"{fits} of {count} servers of flavor {flavor} fit now (snapshot {answer['snapshot']})"]
    where = sorted(answer["where"].items(), key=lambda one: (-one[1], one[0]))
    if where:
        lines += table(("HOST", "SERVERS"), [(host, str(number)) for host, number in where])
    if answer["message"]:
        lines.append(f"The next is stopped: {answer['message']}")
    return [*lines, *left(answer["left"]), *rejected(answer["rejections"])]
