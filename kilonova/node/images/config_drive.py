"""The config drive: an ISO 9660 image labelled `config-2` that carries what a server learns of itself."""

from __future__ import annotations

from io import BytesIO
from pathlib import PurePosixPath

import pycdlib

LABEL = "config-2"


def config_drive_image(files: dict[str, bytes]) -> bytes:
    """An ISO 9660 image with `files` (path → content), their names kept by Rock Ridge and Joliet."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09", joliet=3, vol_ident=LABEL)
    made: dict[PurePosixPath, str] = {PurePosixPath("."): ""}  # directory → its plain ISO name
    for number, path in enumerate(sorted(files)):
        where = PurePosixPath(path)
        for parent in reversed(where.parents):
            if parent not in made:
                made[parent] = f"{made[parent.parent]}/D{len(made):05d}"
                iso.add_directory(made[parent], rr_name=parent.name, joliet_path=f"/{parent}")
        content = files[path]
        iso.add_fp(
            BytesIO(content),
            len(content),
            f"{made[where.parent]}/F{number:05d}.;1",
            rr_name=where.name,
            joliet_path=f"/{where}",
        )
    image = BytesIO()
    iso.write_fp(image)
    iso.close()
    return image.getvalue()
