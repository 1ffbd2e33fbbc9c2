"""The image catalogue: names, an operator's own list, and reading files of checksums."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.base.faults import Fault
from kilonova.image.sources import KNOWN, digest_in, named, sources

SHA = "ab" * 32


@pytest.mark.parametrize(
    "text",
    [
        f"{SHA}  disk.qcow2\n",
        f"{'00' * 32} *other.img\n{SHA} *disk.qcow2\n",
        f"# disk.qcow2: 1 bytes\nSHA256 (disk.qcow2) = {SHA}\n",
        f"{SHA}  ./disk.qcow2",
    ],
)
def test_digests_are_found(text: str) -> None:
    assert digest_in(text, "disk.qcow2") == SHA
    assert digest_in(text, "missing.qcow2") == ""


def test_every_known_source_can_be_verified() -> None:
    assert len({one.name for one in KNOWN}) == len(KNOWN) >= 5
    for one in KNOWN:
        assert one.url.startswith("https://") and one.checksums_url.startswith("https://")


def test_an_operators_list_adds_and_replaces(tmp_path: Path) -> None:
    mine = tmp_path / "sources.toml"
    mine.write_text('[mine]\nurl = "http://mirror/x"\nchecksum = "00"\n["debian-13"]\nurl = "http://mirror/d"\n')
    found = sources(mine)
    assert found["mine"].disk_format == "qcow2" and found["debian-13"].url == "http://mirror/d"
    with pytest.raises(Fault) as unknown:
        named(found, "nothing")
    assert "debian-13" in unknown.value.hint
    mine.write_text('[mine]\ncolour = "red"\n')
    with pytest.raises(Fault, match="no list of image sources"):
        sources(mine)
