"""What a domain's configuration says of its directory, as types. Names and meanings are Keystone's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta

from kilonova.base.faults import invalid

DRIVER = "ldap"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONNECT_SECONDS = 5.0  # where connection_timeout says nothing
_Count = Annotated[int, Meta(ge=0)]
_Text = Annotated[str, Meta(min_length=1)]


class LdapOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One directory: where it is, and what of its entries is a user or a group. Seconds; sizes in entries."""

    url: _Text = "ldap://localhost"
    user: str | None = None
    password: str | None = None
    suffix: str = "cn=example,cn=com"
    query_scope: Literal["one", "sub"] = "one"
    page_size: _Count = 0
    alias_dereferencing: Literal["never", "searching", "always", "finding", "default"] = "default"
    chase_referrals: bool | None = None
    user_tree_dn: str | None = None
    user_filter: str | None = None
    user_objectclass: _Text = "inetOrgPerson"
    user_id_attribute: _Text = "cn"
    user_name_attribute: _Text = "sn"
    user_description_attribute: str | None = "description"
    user_mail_attribute: str | None = "mail"
    user_enabled_attribute: str | None = "enabled"
    user_enabled_invert: bool = False
    user_enabled_mask: _Count = 0
    user_enabled_default: str = "True"
    user_attribute_ignore: tuple[str, ...] = ("default_project_id",)
    user_default_project_id_attribute: str | None = None
    user_enabled_emulation: bool = False
    user_enabled_emulation_dn: str | None = None
    user_enabled_emulation_use_group_config: bool = False
    user_additional_attribute_mapping: tuple[str, ...] = ()
    group_tree_dn: str | None = None
    group_filter: str | None = None
    group_objectclass: _Text = "groupOfNames"
    group_id_attribute: _Text = "cn"
    group_name_attribute: _Text = "ou"
    group_members_are_ids: bool = False
    group_member_attribute: _Text = "member"
    group_desc_attribute: str | None = "description"
    group_attribute_ignore: tuple[str, ...] = ()
    group_ad_nesting: bool = False
    tls_cacertfile: str | None = None
    tls_cacertdir: str | None = None
    use_tls: bool = False
    tls_req_cert: Literal["demand", "never", "allow"] = "demand"
    connection_timeout: float = -1
    pool_size: Annotated[int, Meta(ge=1)] = 10
    pool_connection_lifetime: _Count = 600

    @property
    def user_tree(self) -> str:
        """Below it are the users."""
        return self.user_tree_dn or f"ou=Users,{self.suffix}"

    @property
    def group_tree(self) -> str:
        """Below it are the groups."""
        return self.group_tree_dn or f"ou=UserGroups,{self.suffix}"

    @property
    def emulation_dn(self) -> str:
        """The group whose members are the users that are enabled, where that is how it is told."""
        return self.user_enabled_emulation_dn or f"cn=enabled_users,{self.user_tree}"

    @property
    def connect_seconds(self) -> float:
        """How long to wait for a connection, and for each answer on it."""
        return self.connection_timeout if self.connection_timeout > 0 else CONNECT_SECONDS

    @property
    def addresses(self) -> list[SplitResult]:
        """Its URLs, taken apart. ValueError for one that cannot be."""
        return [urlsplit(url) for url in self.url.replace(",", " ").split()]

    @property
    def is_ldap(self) -> bool:
        """Whether every URL is one of a directory: any other may be written down, and cannot be asked."""
        return {parts.scheme for parts in self.addresses} <= {"ldap", "ldaps", "ldapi"}

    @property
    def is_private(self) -> bool:
        """Whether what is said cannot be heard on the way: encrypted, or on this machine."""
        return self.use_tls or all(
            parts.scheme in ("ldaps", "ldapi") or parts.hostname in LOOPBACK for parts in self.addresses
        )


def read_options(given: Mapping[str, Any]) -> LdapOptions:
    """The options of the group `ldap`; texts may stand for numbers and yes or no. INVALID when one cannot be."""
    values = {name: _plain(name, value) for name, value in given.items() if name in LdapOptions.__struct_fields__}
    try:
        options = msgspec.convert(values, LdapOptions, strict=False)
        readable = bool(options.addresses)
    except (msgspec.ValidationError, ValueError) as error:
        raise invalid(f"Invalid input for field config.ldap: {_without_values(error)}.") from None
    if not readable:
        raise invalid("Invalid input for field config.ldap.url: it is empty.")
    return options


def _plain(name: str, value: Any) -> Any:
    """Lists may be texts with commas; what stands for a text may be a number or yes or no."""
    if name.endswith(("_ignore", "_mapping")) and isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if name == "user_enabled_default" and isinstance(value, bool | int):
        return str(value)
    return value


def _without_values(error: Exception) -> str:
    """What is wrong, and where: never the value itself, which may be a password."""
    return str(error) if isinstance(error, msgspec.ValidationError) else "a URL cannot be read"
