"""Access rules: which requests a token got with a restricted application credential may make.

A rule is (service type, method, path pattern), as "Application credentials" in the Identity API describes it. Patterns
are of paths below the service's own address: `/v2.1/servers/*`; `*` and `{name}` stand for one part between slashes,
`**` for any number. What a service asks of another for the user, with its own token beside, is not held against it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from kilonova.base.caller import AccessRule

# by participant, the names in the catalog that mean the service: the field's service types and their older aliases
TYPES = {
    "keystone": ("identity",),
    "glance": ("image",),
    "placement": ("placement",),
    "nova_api": ("compute",),
    "neutron": ("network",),
    "cinder": ("block-storage", "block-store", "volume", "volumev2", "volumev3"),
    "swift": ("object-store",),
    "heat": ("orchestration",),
}
_PIECE = re.compile(r"\*\*|\*|\{[^}/]*\}")


def permits(rules: Iterable[AccessRule], participant: str, method: str, paths: Iterable[str]) -> bool:
    """Whether a rule allows `method` on one of the names of the path, at the service that `participant` is."""
    types = TYPES.get(participant, ())
    tried = tuple(paths)
    for service, wanted, pattern in rules:
        if service in types and wanted == method and any(_compiled(pattern).fullmatch(path) for path in tried):
            return True
    return False


@functools.lru_cache(1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    made, end = [], 0
    for piece in _PIECE.finditer(pattern):
        made.append(re.escape(pattern[end : piece.start()]))
        made.append(".*" if piece[0] == "**" else "[^/]+")
        end = piece.end()
    return re.compile("".join(made) + re.escape(pattern[end:]))
