"""Image's stores and what else it leans on, from the settings: `[image]`, `[[image.stores]]`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from kilonova.base.faults import invalid
from kilonova.cli.compose.ground import Ground
from kilonova.image.cache.copies import Copies
from kilonova.image.certificates import BarbicanCertificates, DirectoryCertificates
from kilonova.image.contract import Certificates, ImageStore, Trust
from kilonova.image.core import ImageParts, Workers
from kilonova.image.limits import UnifiedLimits
from kilonova.image.regions import CatalogRegions
from kilonova.image.settings import StoreSettings
from kilonova.image.stores import Store
from kilonova.node.ceph.cluster import CephCluster
from kilonova.node.images.convert import FileConverter
from kilonova.node.images.inspector import ConfinedInspector
from kilonova.node.images.rbd import RbdStore
from kilonova.node.images.s3 import S3Store
from kilonova.node.images.store import FileStore
from kilonova.node.images.swift import SwiftStore, SwiftUser
from kilonova.node.images.web import WebReader

FILES = StoreSettings("files", description="Files of this cloud", default=True)


def image_stores(ground: Ground) -> tuple[Store, ...]:
    """Every store that the settings name; one of files when they name none."""
    return tuple(_store(ground, one) for one in ground.settings.image.stores or (FILES,))


def _store(ground: Ground, wanted: StoreSettings) -> Store:
    properties = {name: value for name in ("container", "region") if (value := getattr(wanted, name))}
    return Store(
        wanted.id,
        wanted.kind,
        _bytes(ground, wanted),
        description=wanted.description,
        weight=wanted.weight,
        default=wanted.default,
        properties=properties,
    )


def _bytes(ground: Ground, wanted: StoreSettings) -> ImageStore | None:
    match wanted.kind:
        case "file":
            own = ground.directory / ("images" if wanted.id == FILES.id else f"images-{wanted.id}")
            return FileStore(ground.world, Path(wanted.directory) if wanted.directory else own)
        case "http":
            return None  # nothing is saved there: its images are at URLs that users gave
        case "s3":
            keys = (wanted.user, wanted.secret)
            return S3Store(ground.world, wanted.url, wanted.container, keys, wanted.region)
        case "swift":
            user = SwiftUser(wanted.url, wanted.user, wanted.secret, wanted.project, wanted.region)
            return SwiftStore(ground.world, user, wanted.container)
        case "rbd":
            if not wanted.container:
                raise invalid(f"Image store {wanted.id} names no pool.", hint="Set container to the pool's name.")
            return RbdStore(ground.world, ceph_cluster(ground), wanted.container)
        case _:
            known = "file, http, s3, swift, rbd"
            raise invalid(f"Image store {wanted.id} has kind {wanted.kind!r}.", hint=f"Known: {known}.")


@cache
def ceph_cluster(ground: Ground) -> CephCluster:
    """The storage cluster of the settings: one connection for all that this process keeps there."""
    return CephCluster(ground.settings.ceph.conf, ground.settings.ceph.user)


@cache
def inspector(ground: Ground) -> ConfinedInspector:
    """Who reads the headers of images, for all of this process."""
    return ConfinedInspector(ground.world)


def image_parts(ground: Ground, stores: tuple[Store, ...]) -> ImageParts:
    """What image leans on."""
    settings = ground.settings.image
    copies = None
    if settings.cache_bytes:
        kept = FileStore(ground.world, ground.directory / "image-copies")
        copies = Copies(ground.world, ground.databases["image"], kept, ground.host, settings.cache_bytes)
    return ImageParts(
        stores=stores,
        workers=Workers(ground.bus("glance-api"), ground.sealer),
        web=WebReader(ground.world, settings.web.rules()),
        inspector=inspector(ground),
        converter=FileConverter(ground.world, ground.directory / "image-scratch"),
        limits=UnifiedLimits(ground.world, ground.client("/identity")),
        regions=CatalogRegions(ground.client("/identity")),
        certificates=certificates(ground),
        copies=copies,
    )


def certificates(ground: Ground) -> Certificates:
    """The key manager that the settings name."""
    settings = ground.settings.image
    match settings.key_manager:
        case "directory":
            own = Path(settings.certificates) if settings.certificates else ground.directory / "certificates"
            return DirectoryCertificates(ground.world, own)
        case "barbican":
            return BarbicanCertificates(ground.client("/identity"))
        case _:
            raise invalid(
                f"[image] key_manager = {settings.key_manager!r} is not known.", hint="Known: directory, barbican."
            )


def trust(ground: Ground) -> Trust:
    """What hosts ask of images whose servers ask nothing."""
    settings = ground.settings.compute
    trusted = settings.trusted_image_certificates
    return Trust(settings.verify_image_signatures or bool(trusted), trusted)
