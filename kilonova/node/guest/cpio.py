"""The `newc` cpio archive that the kernel unpacks as its first filesystem."""

from __future__ import annotations

from kilonova.node.guest.tree import Node, Tree

TRAILER = "TRAILER!!!"


def _member(name: str, node: Node, number: int) -> bytes:
    # Field order and widths: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
    fields = (number, node.mode, node.owner, node.group, 1, 0, len(node.data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + node.data + bytes(-len(node.data) % 4)


def archive(tree: Tree) -> bytes:
    """The tree as a newc archive: root-owned files stay root's whoever builds it, and equal trees give equal bytes."""
    members = [_member(path, node, number) for number, (path, node) in enumerate(tree, start=1)]
    members.append(_member(TRAILER, Node(0, 0, 0), 0))
    body = b"".join(members)
    return body + bytes(-len(body) % 512)
