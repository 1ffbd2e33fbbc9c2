"""Paths of certificates from an image to a root that a server trusts."""

from __future__ import annotations

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.image.image.trust import require_path
from tests.unit.image.signing import NOW, Authority


def trusted(certificate: Authority, *authorities: Authority) -> None:
    require_path(certificate.certificate, [one.certificate for one in authorities], NOW)


def refused(why: str, certificate: Authority, *authorities: Authority) -> None:
    with pytest.raises(Fault, match=why) as fault:
        trusted(certificate, *authorities)
    assert fault.value.kind is Kind.INVALID


def test_a_path_to_a_root() -> None:
    root = Authority("root")
    middle = Authority("middle", root)
    image = Authority("image", middle, ca=False)
    trusted(image, middle, root)
    trusted(image, root, Authority("stranger"), middle)
    trusted(Authority("direct", root, ca=False), root)
    trusted(root, root)  # an image that was signed with the root's own key


def test_a_path_that_ends_before_a_root_or_elsewhere() -> None:
    root = Authority("root")
    middle = Authority("middle", root)
    image = Authority("image", middle, ca=False)
    refused("no certificate that is trusted", image)
    refused("no certificate that is trusted", image, root)
    refused("no certificate that is trusted", image, middle)
    refused("no certificate that is trusted", image, middle, Authority("root"))  # the name alone is not enough
    refused("no certificate that is trusted", Authority("own"), root)


def test_who_is_no_authority_issues_nothing() -> None:
    root = Authority("root")
    leaf = Authority("leaf", root, ca=False)
    refused("is no authority", Authority("image", leaf, ca=False), leaf, root)
    selfish = Authority("selfish", ca=False)
    refused("is no authority", Authority("image", selfish, ca=False), selfish)


def test_no_longer_a_path_than_allowed() -> None:
    root = Authority("root", path_length=0)
    trusted(Authority("image", root, ca=False), root)
    middle = Authority("middle", root)
    refused("longer than an authority", Authority("image", middle, ca=False), middle, root)


@pytest.mark.parametrize("days", [(-20, -1), (1, 20)])
def test_each_in_its_time(days: tuple[int, int]) -> None:
    root, late = Authority("root"), Authority("late", days=days)
    refused("not valid at this time", Authority("image", root, ca=False, days=days), root)
    refused("not valid at this time", Authority("image", late, ca=False), late)
