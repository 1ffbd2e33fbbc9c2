"""Override files and the sample: what an operator writes, reloads, and reads when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kilonova.base.caller import Caller
from kilonova.base.faults import Fault, Kind
from kilonova.policy.files import PolicyFile, parse_overrides
from kilonova.policy.personas import ADMIN_OR_PROJECT_MEMBER, network_base_rules
from kilonova.policy.rules import Policy, Rule
from kilonova.policy.sample import sample

FLOATING = Rule(
    "create_floatingip",
    ADMIN_OR_PROJECT_MEMBER,
    "Create a floating IP",
    (("POST", "/floatingips"),),
    deprecated_names=("create_floating_ip",),
)
RULES = (*network_base_rules, FLOATING)
MEMBER = Caller(project_id="p1", roles=("member",))
ADMIN = Caller(project_id="p0", roles=("admin",))
MINE = {"project_id": "p1"}


def file_with(tmp_path: Path, text: str, name: str = "policy.yaml") -> PolicyFile:
    path = tmp_path / name
    path.write_text(text)
    return PolicyFile(path, Policy(RULES))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("policy.yaml", '# keep floating IPs for admins\n"create_floatingip": "rule:context_is_admin"\n'),
        ("policy.yaml", "create_floatingip:\n  - [role:admin]\n"),
        ("policy.json", '{\n\t"create_floatingip": "rule:context_is_admin"\n}\n'),
        ("policy.json", '{"create_floatingip": [["role:admin"], ["role:ghost"]]}'),
    ],
)
def test_floating_ips_are_kept_for_admins(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    policy = Policy(RULES)
    assert policy.allows("create_floatingip", MEMBER, MINE)
    assert PolicyFile(tmp_path / name, policy).load() == ()
    assert not policy.allows("create_floatingip", MEMBER, MINE)
    assert policy.allows("create_floatingip", ADMIN, MINE)


def test_a_missing_or_empty_file_means_the_defaults(tmp_path: Path) -> None:
    policy = Policy(RULES, {"create_floatingip": "!"})
    assert PolicyFile(tmp_path / "policy.yaml", policy).load() == ()
    assert policy.allows("create_floatingip", MEMBER, MINE)
    assert file_with(tmp_path, "# nothing\n").load() == ()


@pytest.mark.parametrize("text", ["create_floatingip:\n", "create_floatingip: !\n", "create_floatingip: null\n"])
def test_a_key_without_a_value_denies(tmp_path: Path, text: str) -> None:
    policy = Policy(RULES)
    (tmp_path / "policy.yaml").write_text(text)
    PolicyFile(tmp_path / "policy.yaml", policy).load()
    assert not policy.allows("create_floatingip", ADMIN, MINE)


def test_warnings_name_the_file(tmp_path: Path) -> None:
    warnings = file_with(tmp_path, 'create_floatingips: "!"\n').load()
    assert warnings[0].startswith(f"{tmp_path}/policy.yaml: Rule create_floatingips is not known. Did you mean create_")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('owner: "role:x"\ncreate_floatingip: "role:admin adn role:x"\n', 2, "rule create_floatingip: column 12"),
        ('\n\ncreate_floatingip: "rule:contxt_is_admin"\n', 3, "did you mean context_is_admin"),
        ('shared: "@"\nowner: "rule:admin_or_owner"\n', 2, "it refers to itself"),
        ("create_floatingip: !mine role:x\n", 1, "check string in quotes, found the tag !mine"),
        ("create_floatingip: @\n", 1, "in quotes"),
        ("create_floatingip: true\n", 1, "found a bool"),
        ("create_floatingip: {a: b}\n", 1, "found a map"),
        ('shared: "@"\nshared: "!"\n', 2, "already set on line 1"),
        ("- role:admin\n", 1, "mapping of rule names"),
        ('shared: "@"\nowner: "unfinished\n', 3, "quot"),
    ],
)
def test_a_broken_file_says_where_and_changes_nothing(tmp_path: Path, text: str, line: int, told: str) -> None:
    path = tmp_path / "policy.yaml"
    policy = Policy(RULES)
    file = PolicyFile(path, policy)
    path.write_text('create_floatingip: "role:admin"\n')
    file.load()
    path.write_text(text)
    with pytest.raises(Fault) as caught:
        file.load()
    assert caught.value.kind is Kind.INVALID
    assert caught.value.message.startswith(f"Policy file {path}, line {line}: ")
    assert told in caught.value.message
    assert not policy.allows("create_floatingip", MEMBER, MINE)
    assert policy.allows("create_floatingip", ADMIN, MINE)
    path.write_text('create_floatingip: "role:member"\n')
    file.load()
    assert policy.allows("create_floatingip", MEMBER, MINE)


def test_a_file_that_cannot_be_read_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="cannot be read") as caught:
        PolicyFile(tmp_path, Policy(RULES)).load()
    assert caught.value.kind is Kind.UNAVAILABLE


def test_the_sample_is_all_comments_and_holds_the_defaults_when_uncommented() -> None:
    text = sample(RULES)
    assert parse_overrides(text, "policy.yaml").checks == {}
    assert "# Create a floating IP\n# POST   /floatingips\n# Intended scope(s): project\n" in text
    uncommented = "\n".join(line[1:] for line in text.splitlines() if line.startswith('#"'))
    assert yaml.safe_load(uncommented) == {rule.name: rule.check for rule in RULES}
