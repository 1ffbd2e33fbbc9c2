"""What an import was asked to do, as its operation journals it."""

from __future__ import annotations

import msgspec

DIRECT, WEB, COPY, REGION = "glance-direct", "web-download", "copy-image", "glance-download"
STATUS = {DIRECT: "uploading", WEB: "queued", COPY: "active", REGION: "queued"}  # that the image must have


class Plan(msgspec.Struct, frozen=True):
    """One import."""

    method: str
    task_id: str
    stores: list[str]
    all_must_succeed: bool = True
    uri: str = ""  # web-download
    source_image_id: str = ""  # glance-download
    region: str = ""
    interface: str = "public"
    inject: dict[str, str] = {}  # properties that the operator puts on imported images
    warning: str = ""  # what the user is told in the end


class LocationPlan(msgspec.Struct, frozen=True):
    """One location to read and hash."""

    task_id: str
    url: str
    hash_algo: str = ""  # "" : nothing was said of the data
    hash_value: str = ""
    checksum: str = ""
