"""Tests that are not run and skips that are right, each with the reason that a user of the cloud is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tests.conformance.areas import plain

# What the lax cloud of FORMATS=loose is asked besides the strict one.
LOOSE: Final = r"(ListUserImagesTest|ImagesFormatTest|do_secure_hash_false)"

# area: regex of test ids → why they are not run at all
LEFT_OUT: Final[dict[str, dict[str, str]]] = {
    "image": {
        r"ImagesFormatTest\.test_compute_rejects_(invalid|format_mismatch)\(qcow2-backing-file\)": (
            "They upload a disk with a backing file, so that compute may refuse it. No setting makes our image API "
            "take such data; what compute does with images that were registered before is tested by "
            "tests/attacks/image."
        ),
    }
}

# area: regex of the suites' own reason → why the skip is right
SKIPS: Final[dict[str, dict[str, str]]] = {
    "image": {
        r"bug: https://launchpad\.net/bugs/2030527": "Tempest itself never runs this test: its bug 2030527 is open.",
        r"does not currently reject unusable images on upload": (
            "A variant of a test that is for usable images only: the image with a backing file is refused at upload."
        ),
        r"Image format enforcement prevents testing|Unable to test compute image formats|do_secure_hash is enabled": (
            "Needs a lax cloud: run with FORMATS=loose."
        ),
        r"do_secure_hash is disabled|requires.*do_secure_hash": "Needs a strict cloud: run without FORMATS=loose.",
        r"Import image_conversion not enabled": "The machine of the run has no qemu-img.",
    }
}


def is_left_out(area: str, test: str) -> bool:
    """Whether the test is not run at all."""
    return any(re.search(pattern, plain(test)) for pattern in LEFT_OUT.get(area, {}))


def reason_of(area: str, told: str) -> str:
    """Why a skip for the suites' reason `told` is right; "" when nobody knows."""
    return next((why for pattern, why in SKIPS.get(area, {}).items() if re.search(pattern, told)), "")


def unexpected(area: str, skipped: Mapping[str, str]) -> dict[str, str]:
    """Skips that nobody has explained, in areas whose skips are explained at all."""
    if area not in SKIPS:
        return {}
    return {name: why for name, why in skipped.items() if not reason_of(area, why)}
