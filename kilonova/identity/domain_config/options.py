"""Which options a domain may have for itself, with what everyone else has; and which are secret."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.identity.ldap.options import DRIVER, read_options

DEFAULTS: dict[str, dict[str, Any]] = {
    "identity": {"driver": "sql", "list_limit": None},
    "ldap": {
        "url": "ldap://localhost",
        "user": None,
        "suffix": "cn=example,cn=com",
        "query_scope": "one",
        "page_size": 0,
        "alias_dereferencing": "default",
        "chase_referrals": None,
        "user_tree_dn": None,
        "user_filter": None,
        "user_objectclass": "inetOrgPerson",
        "user_id_attribute": "cn",
        "user_name_attribute": "sn",
        "user_description_attribute": "description",
        "user_mail_attribute": "mail",
        "user_pass_attribute": "userPassword",
        "user_enabled_attribute": "enabled",
        "user_enabled_invert": False,
        "user_enabled_mask": 0,
        "user_enabled_default": "True",
        "user_attribute_ignore": ["default_project_id"],
        "user_default_project_id_attribute": None,
        "user_enabled_emulation": False,
        "user_enabled_emulation_dn": None,
        "user_enabled_emulation_use_group_config": False,
        "user_additional_attribute_mapping": [],
        "group_tree_dn": None,
        "group_filter": None,
        "group_objectclass": "groupOfNames",
        "group_id_attribute": "cn",
        "group_name_attribute": "ou",
        "group_members_are_ids": False,
        "group_member_attribute": "member",
        "group_desc_attribute": "description",
        "group_attribute_ignore": [],
        "group_additional_attribute_mapping": [],
        "group_ad_nesting": False,
        "tls_cacertfile": None,
        "tls_cacertdir": None,
        "use_tls": False,
        "tls_req_cert": "demand",
        "connection_timeout": -1,
        "use_pool": True,
        "pool_size": 10,
        "pool_retry_max": 3,
        "pool_retry_delay": 0.1,
        "pool_connection_timeout": -1,
        "pool_connection_lifetime": 600,
        "use_auth_pool": True,
        "auth_pool_size": 100,
        "auth_pool_connection_lifetime": 60,
    },
}
SECRET = frozenset((("ldap", "password"),))
Config = dict[str, dict[str, Any]]


def check_place(group: str | None, option: str | None) -> None:
    """FORBIDDEN for a group or option that no domain may have."""
    if group is not None and group not in DEFAULTS:
        raise Fault(Kind.FORBIDDEN, f"Group {group[:60]} is not supported for domain specific configurations.")
    if group is not None and option is not None and not _is_known(group, option):
        raise Fault(
            Kind.FORBIDDEN,
            f"Option {option[:60]} in group {group} is not supported for domain specific configurations.",
        )


def _is_known(group: str, option: str) -> bool:
    return option in DEFAULTS[group] or (group, option) in SECRET


def checked(config: Any, group: str | None = None, option: str | None = None) -> Config:
    """`config` as a body gave it, when all of it may be set; of one group or option when the path names them."""
    if option is not None and group is not None:
        if not isinstance(config, dict) or set(config) != {option}:
            raise invalid(f"The config must hold the option {option} and nothing else.")
        config = {group: config}
    if not isinstance(config, dict) or not config or not all(isinstance(one, dict) for one in config.values()):
        raise invalid("Invalid input for field config: it holds groups of options.")
    if group is not None and set(config) != {group}:
        raise invalid(f"The config must hold the group {group} and nothing else.")
    for name, options in config.items():
        check_place(name, None)
        for key in options:
            check_place(name, key)
    read_options(config.get("ldap", {}))
    return config


def is_directory(config: Config) -> bool:
    """Whether it says that the domain's users are in a directory."""
    return bool(config.get("identity", {}).get("driver") == DRIVER)


def public(config: Config) -> Config:
    """`config` without what is secret; groups that were only that are gone."""
    kept = {
        group: {key: value for key, value in options.items() if (group, key) not in SECRET}
        for group, options in config.items()
    }
    return {group: options for group, options in kept.items() if options}
