"""Override files: policy.yaml or policy.json, read at start and again when told; a broken one changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.base import faults
from kilonova.base.faults import Fault, Kind
from kilonova.policy.rules import Policy

if TYPE_CHECKING:
    import yaml

_KEPT = "The policy in force was kept; correct the file and reload."
_PLAIN_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Overrides:
    """A file's check strings by rule name, and the line (from 1) each stands on."""

    checks: dict[str, Any]
    lines: dict[str, int]


class PolicyFile:
    """One override file and the policy it changes. A file that does not exist means: the defaults."""

    def __init__(self, path: Path, policy: Policy, read: Callable[[Path], str] = Path.read_text) -> None:
        self.path = path
        self._policy = policy
        self._read = read

    def load(self) -> tuple[str, ...]:
        """Read the file and put it in force; gives the warnings to log.

        Raises INVALID naming file, line and rule when the file cannot be used, UNAVAILABLE when it cannot be read;
        the policy in force stays then.
        """
        try:
            text = self._read(self.path)
        except FileNotFoundError:
            text = ""
        except (OSError, UnicodeDecodeError) as error:
            raise faults.unavailable(
                f"Policy file {self.path} cannot be read.", hint=_KEPT, inside=str(error)
            ) from error
        overrides = parse_overrides(text, str(self.path))
        try:
            self._policy.override(overrides.checks)
        except Fault as fault:
            raise _placed(fault, str(self.path), overrides) from fault
        return tuple(f"{self.path}: {warning}" for warning in self._policy.warnings)


def parse_overrides(text: str, name: str) -> Overrides:
    """The overrides in YAML or JSON text; `name` is the file's, for errors. Empty text, or only comments, is none."""
    if not text.strip():
        return Overrides({}, {})
    import yaml  # most processes have no overrides, and it takes a megabyte

    try:
        root = yaml.compose(text.replace("\t", "  ") if name.endswith(".json") else text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _invalid(name, line, f"{error.problem}. Put check strings in quotes") from error
    except yaml.YAMLError as error:
        raise _invalid(name, 1, str(error)) from error
    if root is None:
        return Overrides({}, {})
    if not isinstance(root, yaml.MappingNode):
        raise _invalid(name, root.start_mark.line + 1, "expected a mapping of rule names to check strings")
    found = Overrides({}, {})
    for key, value in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _invalid(name, line, "expected a rule name")
        rule = key.value
        if rule in found.checks:
            raise _invalid(name, line, f"rule {rule} is already set on line {found.lines[rule]}")
        found.checks[rule] = _value(value, name, rule)
        found.lines[rule] = line
    return found


def _value(node: yaml.Node, name: str, rule: str) -> Any:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [_value(item, name, rule) for item in node.value]
    if isinstance(node, yaml.ScalarNode) and node.tag == _PLAIN_TAG + "str":
        return node.value
    if isinstance(node, yaml.ScalarNode) and node.tag == _PLAIN_TAG + "null":
        return None
    found = f"the tag {node.tag}" if not node.tag.startswith(_PLAIN_TAG) else f"a {node.tag.removeprefix(_PLAIN_TAG)}"
    why = f"rule {rule}: expected a check string in quotes, found {found}"
    raise _invalid(name, node.start_mark.line + 1, why)


def _placed(fault: Fault, name: str, overrides: Overrides) -> Fault:
    """The same fault with file and line: of the rule itself, or of the first in its circle that the file sets."""
    among = [rule for rule in (fault.data.get("rule"), *fault.data.get("among", ())) if rule in overrides.lines]
    rule = among[0] if among else fault.data.get("rule", "")
    return _invalid(name, overrides.lines.get(rule, 1), f"rule {rule}: {fault.data.get('why', fault.message)}")


def _invalid(name: str, line: int, why: str) -> Fault:
    return Fault(
        Kind.INVALID,
        f"Policy file {name}, line {line}: {why}.",
        hint=_KEPT,
        code="PolicyBroken",
        data={"file": name, "line": line},
    )
