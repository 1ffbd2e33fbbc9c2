"""A file tree in memory with explicit owners and modes: what the guest's archives and filesystems are made from."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Node:
    """A folder, a file or a symbolic link. `data`: the file's content or the link's target; mode includes the type."""

    mode: int
    owner: int
    group: int
    data: bytes = b""

    @property
    def is_folder(self) -> bool:
        """True for a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """True for a symbolic link."""
        return stat.S_ISLNK(self.mode)


class Tree:
    """Paths without a leading slash → nodes. Folders above a new node appear by themselves, owned by root."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def folder(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        """Adds a folder; its group has the owner's number."""
        self._put(path, Node(stat.S_IFDIR | mode, owner, owner))

    def file(self, path: str, data: bytes, mode: int = 0o644, owner: int = 0) -> None:
        """Adds or replaces a file."""
        self._put(path, Node(stat.S_IFREG | mode, owner, owner, data))

    def link(self, path: str, target: str) -> None:
        """Adds or replaces a symbolic link."""
        self._put(path, Node(stat.S_IFLNK | 0o777, 0, 0, target.encode()))

    def _put(self, path: str, node: Node) -> None:
        for parent in PurePosixPath(path).parents:
            if str(parent) != "." and str(parent) not in self._nodes:
                self._nodes[str(parent)] = Node(stat.S_IFDIR | 0o755, 0, 0)
        self._nodes[path] = node

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def __getitem__(self, path: str) -> Node:
        return self._nodes[path]

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """(path, node) in an order where folders come before what they hold."""
        return iter(sorted(self._nodes.items()))

    def __len__(self) -> int:
        return len(self._nodes)


def spill(tree: Tree, folder: Path) -> None:
    """The tree as real files in `folder` with their modes; owners stay the caller's, who needs no rights for this."""
    folders = []
    for path, node in tree:
        real = folder / path
        if node.is_folder:
            real.mkdir()
            folders.append((real, node))
        elif node.is_link:
            real.symlink_to(node.data.decode())
        else:
            real.write_bytes(node.data)
            real.chmod(stat.S_IMODE(node.mode))
    for real, node in reversed(folders):
        real.chmod(stat.S_IMODE(node.mode))
