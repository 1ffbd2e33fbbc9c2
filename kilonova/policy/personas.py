"""Personas: the check strings and base rules that services share, under the names operators already override.

Today's defaults are the reader, member, manager, admin and service roles, each implying the one before it except
service. Implied roles are resolved by identity when the token is made; rules here look at the token only.
"""

from __future__ import annotations

from kilonova.policy.rules import Rule

ANY = "@"
NOBODY = "!"

ADMIN = "rule:context_is_admin"
PROJECT_MANAGER = "rule:project_manager_api"
PROJECT_MEMBER = "rule:project_member_api"
PROJECT_READER = "rule:project_reader_api"
PROJECT_MANAGER_OR_ADMIN = "rule:project_manager_or_admin"
PROJECT_MEMBER_OR_ADMIN = "rule:project_member_or_admin"
PROJECT_READER_OR_ADMIN = "rule:project_reader_or_admin"
SERVICE_ROLE = "rule:service_api"
SERVICE_OR_ADMIN = "rule:service_or_admin"
ADMIN_OR_OWNER = "rule:admin_or_owner"
ADMIN_API = "rule:admin_api"

SYSTEM_ADMIN = "role:admin and system_scope:all"
SYSTEM_MEMBER = "role:member and system_scope:all"
SYSTEM_READER = "role:reader and system_scope:all"
PROJECT_ADMIN = "role:admin and project_id:%(project_id)s"
DOMAIN_ADMIN = "role:admin and domain_id:%(target.domain_id)s"
DOMAIN_MANAGER = "role:manager and domain_id:%(target.domain_id)s"
DOMAIN_READER = "role:reader and domain_id:%(target.domain_id)s"

# identity
ADMIN_REQUIRED = "rule:admin_required"
IDENTITY_OWNER = "rule:owner"
ADMIN_OR_SYSTEM_READER = f"{ADMIN_REQUIRED} or ({SYSTEM_READER})"
ADMIN_OR_SYSTEM_READER_OR_OWNER = f"{ADMIN_OR_SYSTEM_READER} or {IDENTITY_OWNER}"
ADMIN_OR_TOKEN_SUBJECT = "rule:admin_or_token_subject"
SERVICE_ADMIN_OR_TOKEN_SUBJECT = "rule:service_admin_or_token_subject"
CLOUD_ADMIN = "rule:cloud_admin"

# network
ADMIN_ONLY = "rule:admin_only"
REGULAR_USER = "rule:regular_user"
_MEMBER_HERE = "role:member and project_id:%(project_id)s"
_READER_HERE = "role:reader and project_id:%(project_id)s"
ADMIN_OR_PROJECT_MEMBER = f"({ADMIN_ONLY}) or ({_MEMBER_HERE})"
ADMIN_OR_PROJECT_READER = f"({ADMIN_ONLY}) or ({_READER_HERE})"
ADMIN_OR_SERVICE = f"({ADMIN_ONLY}) or ({SERVICE_ROLE})"
ADMIN_OR_NETWORK_OWNER_MEMBER = f"({ADMIN_ONLY}) or (role:member and rule:network_owner)"
ADMIN_OR_NETWORK_OWNER_READER = f"({ADMIN_ONLY}) or (role:reader and rule:network_owner)"
ADMIN_OR_PARENT_OWNER_MEMBER = f"({ADMIN_ONLY}) or (role:member and rule:ext_parent_owner)"
ADMIN_OR_PARENT_OWNER_READER = f"({ADMIN_ONLY}) or (role:reader and rule:ext_parent_owner)"
ADMIN_OR_SECURITY_GROUP_OWNER_MEMBER = f"({ADMIN_ONLY}) or (role:member and rule:sg_owner)"
ADMIN_OR_SECURITY_GROUP_OWNER_READER = f"({ADMIN_ONLY}) or (role:reader and rule:sg_owner)"

# image
IMAGE_ADMIN_OR_MEMBER = f"role:admin or ({_MEMBER_HERE})"
IMAGE_ADMIN_OR_READER = f"role:admin or ({_READER_HERE})"
IMAGE_CREATE = f"role:admin or ({_MEMBER_HERE} and project_id:%(owner)s)"
_SEES_IMAGE = (
    "(project_id:%(project_id)s or project_id:%(member_id)s or "
    '"community":%(visibility)s or "public":%(visibility)s or "shared":%(visibility)s)'
)
IMAGE_GET = f"role:admin or (role:reader and {_SEES_IMAGE})"
IMAGE_DOWNLOAD = f"role:admin or (role:member and {_SEES_IMAGE})"
IMAGE_ADMIN_OR_SHARED_MEMBER = "role:admin or (role:member and project_id:%(member_id)s)"
IMAGE_ADMIN_OR_READER_OR_SHARED_MEMBER = (
    "role:admin or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)"
)
IMAGE_NAMESPACE_GET = 'role:admin or (role:reader and (project_id:%(project_id)s or "public":%(visibility)s))'

# block storage
VOLUME_ADMIN_OR_MEMBER = "rule:xena_system_admin_or_project_member"
VOLUME_ADMIN_OR_READER = "rule:xena_system_admin_or_project_reader"

# placement
PLACEMENT_ADMIN_OR_SERVICE = "rule:admin_or_service_api"
PLACEMENT_READER = "rule:admin_or_project_reader_or_service_api"


def _base(name: str, check: str, description: str) -> Rule:
    return Rule(name, check, description, scopes=())


base_rules: tuple[Rule, ...] = (
    _base("context_is_admin", "role:admin", "Decides what is required for the 'is_admin:True' check to succeed."),
    _base("admin_or_owner", "is_admin:True or project_id:%(project_id)s", "Older default of most APIs for users."),
    _base("admin_api", "is_admin:True", "Older default of most APIs for administrators."),
    _base("project_manager_api", "role:manager and project_id:%(project_id)s", "A manager of the project."),
    _base("project_member_api", _MEMBER_HERE, "A member of the project."),
    _base("project_reader_api", _READER_HERE, "A reader of the project."),
    _base("project_manager_or_admin", f"{PROJECT_MANAGER} or {ADMIN}", "A manager of the project, or an admin."),
    _base("project_member_or_admin", f"{PROJECT_MEMBER} or {ADMIN}", "A member of the project, or an admin."),
    _base("project_reader_or_admin", f"{PROJECT_READER} or {ADMIN}", "A reader of the project, or an admin."),
    _base("service_api", "role:service", "Another service of the cloud."),
    _base("service_or_admin", f"{SERVICE_ROLE} or {ADMIN}", "Another service of the cloud, or an admin."),
)
"""For compute and every service without a list of its own below."""

identity_base_rules: tuple[Rule, ...] = (
    _base("admin_required", "role:admin or is_admin:1", "An administrator."),
    _base("cloud_admin", f"{ADMIN_REQUIRED} and (is_admin_project:True or {SYSTEM_ADMIN})", "The cloud's admin."),
    _base("service_role", "role:service", "Another service of the cloud."),
    _base("service_or_admin", "rule:admin_required or rule:service_role", "Another service, or an administrator."),
    _base("owner", "user_id:%(user_id)s", "The user whom the resource belongs to."),
    _base("admin_or_owner", "rule:admin_required or rule:owner", "That user, or an administrator."),
    _base("token_subject", "user_id:%(target.token.user_id)s", "The user whom the token in question was given to."),
    _base("admin_or_token_subject", "rule:admin_required or rule:token_subject", "That user, or an administrator."),
    _base(
        "service_admin_or_token_subject",
        "rule:service_or_admin or rule:token_subject",
        "That user, an administrator, or another service.",
    ),
    _base(
        "domain_managed_target_role",
        "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s",
        "The roles that a domain's manager may give and take.",
    ),
)

network_base_rules: tuple[Rule, ...] = (
    _base("context_is_admin", "role:admin", "Decides who is an administrator."),
    _base("service_api", "role:service", "Another service of the cloud."),
    _base("context_is_advsvc", "role:advsvc", "Older role of services beside the network's."),
    _base("owner", "tenant_id:%(tenant_id)s", "The project that the resource belongs to."),
    _base("admin_or_owner", f"{ADMIN} or rule:owner", "That project, or an administrator."),
    _base("network_owner", "tenant_id:%(network:tenant_id)s", "The project that the network belongs to."),
    _base("admin_or_network_owner", f"{ADMIN} or rule:network_owner", "That project, or an administrator."),
    _base("admin_owner_or_network_owner", "rule:owner or rule:admin_or_network_owner", "Any of these three."),
    _base("admin_only", ADMIN, "An administrator."),
    _base("regular_user", "", "Anyone with a token."),
    _base("shared", "field:networks:shared=True", "A network that all projects share."),
    _base("default", "rule:admin_or_owner", "Older fallback."),
    _base("ext_parent_owner", "tenant_id:%(ext_parent:tenant_id)s", "The project of the parent resource."),
    _base("admin_or_ext_parent_owner", f"{ADMIN} or rule:ext_parent_owner", "That project, or an administrator."),
    _base("sg_owner", "tenant_id:%(security_group:tenant_id)s", "The project of the rule's security group."),
)

_VOLUME_ADMIN = "is_admin:True or (role:admin and is_admin_project:True)"

block_storage_base_rules: tuple[Rule, ...] = (
    _base("context_is_admin", "role:admin", "Decides what is required for the 'is_admin:True' check to succeed."),
    _base("admin_api", _VOLUME_ADMIN, "Default of most APIs for administrators."),
    _base("admin_or_owner", f"{_VOLUME_ADMIN} or project_id:%(project_id)s", "Older default of most APIs for users."),
    _base(
        "system_or_domain_or_project_admin",
        f"({SYSTEM_ADMIN}) or (role:admin and domain_id:%(domain_id)s) or ({PROJECT_ADMIN})",
        "An admin of the cloud, the domain or the project.",
    ),
    _base("xena_system_admin_or_project_reader", f"(role:admin) or ({_READER_HERE})", "Default for reading."),
    _base("xena_system_admin_or_project_member", f"(role:admin) or ({_MEMBER_HERE})", "Default for changing."),
)

image_base_rules: tuple[Rule, ...] = (
    _base("default", "", "Older fallback."),
    _base("context_is_admin", "role:admin", "Decides what is required for the 'is_admin:True' check to succeed."),
)

placement_base_rules: tuple[Rule, ...] = (
    _base("admin_api", "role:admin", "An administrator."),
    _base("service_api", "role:service", "Another service of the cloud."),
    _base("admin_or_service_api", "role:admin or role:service", "Another service, or an administrator."),
    _base("project_reader_api", _READER_HERE, "A reader of the project."),
    _base(
        "admin_or_project_reader_or_service_api",
        "rule:project_reader_api or rule:admin_or_service_api",
        "A reader of the project, an administrator, or another service.",
    ),
)
