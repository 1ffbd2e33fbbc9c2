"""What an image must prove before a server starts from it: that it is signed, and by somebody who is trusted.

Source: compute API 2.63 (trusted_image_certificates); RFC 5280 §4.2.1 (basic constraints, key usage), §6.1 (paths).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.base.ids import is_uuid
from kilonova.image.contract import Certificates, Trust
from kilonova.image.image.signature import CERTIFICATE, Verifier, is_signed, read_certificate

LONGEST_PATH = 50  # as many as a server may name


async def verifier(
    certificates: Certificates | None, token: str, properties: Mapping[str, Any], trust: Trust, now: datetime
) -> Verifier:
    """What the data must pass. INVALID when the image is not signed, or its certificate does not lead to one that is
    trusted (`trust.certificates`; none: any certificate that the key manager has will do)."""
    if not is_signed(properties):
        raise invalid(
            "The image is not signed, and only signed images may be started here.",
            hint="Upload it with the four img_signature properties.",
        )
    if certificates is None:
        raise invalid("Image signatures cannot be verified: this cloud has no key manager.")
    own = await kept(certificates, token, str(properties[CERTIFICATE]))
    if trust.certificates:
        roots = [read_certificate(await kept(certificates, token, one)) for one in trust.certificates]
        require_path(read_certificate(own), roots, now)
    return Verifier(properties, own)


async def kept(certificates: Certificates, token: str, certificate_id: str) -> bytes:
    """The certificate as the key manager keeps it. INVALID when the caller has none of that id."""
    if not is_uuid(certificate_id):
        raise invalid(f"{certificate_id[:60]!r} is no id of a certificate: it must be a UUID.")
    try:
        return await certificates.get(token, certificate_id)
    except Fault as fault:
        if fault.kind in (Kind.NOT_FOUND, Kind.FORBIDDEN):
            raise invalid(
                f"Certificate {certificate_id} is not in the key manager, or you may not read it.",
                hint="Store it there, and let its readers read it.",
                inside=repr(fault),
            ) from None
        raise


def require_path(certificate: x509.Certificate, trusted: list[x509.Certificate], now: datetime) -> None:
    """INVALID unless a path of trusted certificates leads from this one to one that signed itself; all are in their
    time, and each that signs another is allowed to."""
    for below in range(LONGEST_PATH):
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise _refused("a certificate on its path is not valid at this time")
        above = next((one for one in trusted if _issued(one, certificate)), None)
        if above is None:
            raise _refused("its path leads to no certificate that is trusted")
        if above == certificate:
            return
        _require_authority(above, below)
        certificate = above
    raise _refused("its path is too long")


def _issued(above: x509.Certificate, below: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _require_authority(certificate: x509.Certificate, below: int) -> None:
    """It may sign certificates, with `below` others between it and the image's own."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        raise _refused("a certificate on its path is no authority") from None
    if not constraints.ca or not usage.key_cert_sign:
        raise _refused("a certificate on its path is no authority")
    if constraints.path_length is not None and constraints.path_length < below:
        raise _refused("its path is longer than an authority on it allows")


def _refused(why: str) -> Fault:
    return invalid(
        f"The image's certificate is not trusted: {why}.",
        hint="Name all certificates from its issuer up to the root as trusted_image_certificates.",
    )
