"""Identity's tables. `name_key` is the form of a name that is unique (names.py)."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.types import Id, Name, Text, Timestamp

metadata = sa.MetaData()

domains = sa.Table(
    "domain",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("name", Name(), nullable=False),
    sa.Column("name_key", Name(), nullable=False, unique=True),
    sa.Column("description", Text(), nullable=False),
    sa.Column("enabled", sa.Boolean(), nullable=False),
    sa.Column("options", sa.JSON(), nullable=True),
)
projects = sa.Table(
    "project",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("domain_id", Id(), sa.ForeignKey("domain.id"), nullable=False),
    sa.Column("parent_id", Id(), nullable=False, index=True),  # the domain's id at the top
    sa.Column("name", Name(), nullable=False),
    sa.Column("name_key", Name(), nullable=False),
    sa.Column("description", Text(), nullable=False),
    sa.Column("enabled", sa.Boolean(), nullable=False),
    sa.Column("extra", sa.JSON(), nullable=False),
    sa.Column("options", sa.JSON(), nullable=True),
    sa.UniqueConstraint("domain_id", "name_key"),
)
project_tags = sa.Table(
    "project_tag",
    metadata,
    sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", Name(), primary_key=True),
)
users = sa.Table(
    "user_account",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("domain_id", Id(), sa.ForeignKey("domain.id"), nullable=False),
    sa.Column("name", Name(), nullable=False),
    sa.Column("name_key", Name(), nullable=False),
    sa.Column("enabled", sa.Boolean(), nullable=False),
    sa.Column("default_project_id", Id(), nullable=True),
    sa.Column("password_hash", Name(), nullable=False),  # "" when the user has none
    sa.Column("options", sa.JSON(), nullable=False),
    sa.Column("extra", sa.JSON(), nullable=False),
    sa.Column("password_set_at", Timestamp(), nullable=True),
    sa.Column("password_expires_at", Timestamp(), nullable=True),
    sa.Column("failed_logins", sa.Integer(), nullable=False, server_default="0"),  # since the last that was right
    sa.Column("failed_at", Timestamp(), nullable=True),  # the last of them
    sa.Column("active_at", Timestamp(), nullable=True),  # when it last logged in, by the day
    sa.UniqueConstraint("domain_id", "name_key"),
)
groups = sa.Table(
    "user_group",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("domain_id", Id(), sa.ForeignKey("domain.id"), nullable=False),
    sa.Column("name", Name(), nullable=False),
    sa.Column("name_key", Name(), nullable=False),
    sa.Column("description", Text(), nullable=False),
    sa.UniqueConstraint("domain_id", "name_key"),
)
memberships = sa.Table(
    "group_member",
    metadata,
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("group_id", Id(), sa.ForeignKey("user_group.id", ondelete="CASCADE"), primary_key=True, index=True),
)
roles = sa.Table(
    "role",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("domain_id", Id(), nullable=False),  # "" for a role of the whole cloud
    sa.Column("name", Name(), nullable=False),
    sa.Column("name_key", Name(), nullable=False),
    sa.Column("description", Text(), nullable=False),
    sa.Column("options", sa.JSON(), nullable=False),
    sa.UniqueConstraint("domain_id", "name_key"),
)
implications = sa.Table(
    "role_implication",
    metadata,
    sa.Column("prior_id", Id(), sa.ForeignKey("role.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("implied_id", Id(), sa.ForeignKey("role.id", ondelete="CASCADE"), primary_key=True),
)
assignments = sa.Table(
    "role_assignment",
    metadata,
    sa.Column("actor", sa.String(5), primary_key=True),  # user | group
    sa.Column("actor_id", Id(), primary_key=True),
    sa.Column("scope", sa.String(7), primary_key=True),  # project | domain | system
    sa.Column("scope_id", Id(), primary_key=True),  # "all" for the system
    sa.Column("role_id", Id(), sa.ForeignKey("role.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("inherited", sa.Boolean(), primary_key=True),
    sa.Index("ix_role_assignment_scope", "scope", "scope_id"),
)
regions = sa.Table(
    "region",
    metadata,
    sa.Column("id", Name(), primary_key=True),
    sa.Column("description", Text(), nullable=False),
    sa.Column("parent_region_id", Name(), nullable=True),
)
services = sa.Table(
    "service",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("type", Name(), nullable=False),
    sa.Column("name", Name(), nullable=False),
    sa.Column("description", Text(), nullable=False),
    sa.Column("enabled", sa.Boolean(), nullable=False),
)
endpoints = sa.Table(
    "endpoint",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("service_id", Id(), sa.ForeignKey("service.id", ondelete="CASCADE"), nullable=False),
    sa.Column("region_id", Name(), sa.ForeignKey("region.id"), nullable=True),
    sa.Column("interface", sa.String(8), nullable=False),
    sa.Column("url", Text(), nullable=False),
    sa.Column("name", Name(), nullable=False),
    sa.Column("enabled", sa.Boolean(), nullable=False),
)
application_credentials = sa.Table(
    "application_credential",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
    sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", Name(), nullable=False),
    sa.Column("description", Text(), nullable=True),
    sa.Column("secret_hash", Name(), nullable=False),
    sa.Column("role_ids", sa.JSON(), nullable=False),
    sa.Column("unrestricted", sa.Boolean(), nullable=False),
    sa.Column("expires_at", Timestamp(), nullable=True),
    sa.Column("access_rule_ids", sa.JSON(), nullable=True),  # none: every request is allowed
    sa.UniqueConstraint("user_id", "name"),
)
fernet_keys = sa.Table(
    "fernet_key",
    metadata,
    sa.Column("rank", sa.Integer(), primary_key=True, autoincrement=False),  # the highest signs
    sa.Column("sealed", sa.LargeBinary(), nullable=False),
    sa.Column("created_at", Timestamp(), nullable=False),
)
revocations = sa.Table(
    "revocation",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("kind", sa.String(12), nullable=False),  # token | chain | user | project | domain
    sa.Column("value", Name(), nullable=False, index=True),
    sa.Column("revoked_at", Timestamp(), nullable=False),
    sa.Column("expires_at", Timestamp(), nullable=False, index=True),  # no token it concerns lives longer
)
token_version = sa.Table(
    "token_version",
    metadata,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger(), nullable=False),
)
policies = sa.Table(
    "policy",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("type", Name(), nullable=False),
    sa.Column("blob", Text(), nullable=False),
)
policy_associations = sa.Table(
    "policy_association",
    metadata,
    sa.Column("endpoint_id", Id(), primary_key=True),  # either this, or a service, or a service in a region
    sa.Column("service_id", Id(), primary_key=True),
    sa.Column("region_id", Name(), primary_key=True),
    sa.Column("policy_id", Id(), sa.ForeignKey("policy.id", ondelete="CASCADE"), nullable=False),
)
endpoint_groups = sa.Table(
    "endpoint_group",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("name", Name(), nullable=False),
    sa.Column("description", Text(), nullable=False),
    sa.Column("filters", sa.JSON(), nullable=False),
)
project_endpoints = sa.Table(
    "project_endpoint",
    metadata,
    sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("endpoint_id", Id(), sa.ForeignKey("endpoint.id", ondelete="CASCADE"), primary_key=True),
)
project_endpoint_groups = sa.Table(
    "project_endpoint_group",
    metadata,
    sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("endpoint_group_id", Id(), sa.ForeignKey("endpoint_group.id", ondelete="CASCADE"), primary_key=True),
)
registered_limits = sa.Table(
    "registered_limit",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("service_id", Id(), sa.ForeignKey("service.id"), nullable=False),
    sa.Column("region_id", Name(), nullable=False),  # "" for all regions
    sa.Column("resource_name", Name(), nullable=False),
    sa.Column("default_limit", sa.Integer(), nullable=False),
    sa.Column("description", Text(), nullable=True),
    sa.UniqueConstraint("service_id", "region_id", "resource_name"),
)
limits = sa.Table(
    "project_limit",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("registered_limit_id", Id(), sa.ForeignKey("registered_limit.id"), nullable=False),
    sa.Column("project_id", Id(), nullable=False),  # "" when it is of a domain
    sa.Column("domain_id", Id(), nullable=False),
    sa.Column("resource_limit", sa.Integer(), nullable=False),
    sa.Column("description", Text(), nullable=True),
    sa.UniqueConstraint("registered_limit_id", "project_id", "domain_id"),
)
credentials = sa.Table(
    "credential",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("project_id", Id(), nullable=True),
    sa.Column("type", Name(), nullable=False),
    sa.Column("access_hash", Id(), nullable=True, unique=True),  # of EC2 keys: sha256 of the access key
    sa.Column("sealed", sa.LargeBinary(), nullable=False),
    sa.Column("used_step", sa.BigInteger(), nullable=True),  # of one-time passcodes: the last that was used
)
access_rules = sa.Table(
    "access_rule",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
    sa.Column("service", Name(), nullable=False),
    sa.Column("path", Name(), nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.UniqueConstraint("user_id", "service", "path", "method"),
)
trusts = sa.Table(
    "trust",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("trustor_user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
    sa.Column("trustee_user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False),
    sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), nullable=True),
    sa.Column("impersonation", sa.Boolean(), nullable=False),
    sa.Column("role_ids", sa.JSON(), nullable=False),
    sa.Column("expires_at", Timestamp(), nullable=True),
    sa.Column("remaining_uses", sa.Integer(), nullable=True),
    sa.Column("redelegated_trust_id", Id(), sa.ForeignKey("trust.id", ondelete="CASCADE"), nullable=True),
    sa.Column("redelegation_count", sa.Integer(), nullable=False),
)
domain_options = sa.Table(
    "domain_option",
    metadata,
    sa.Column("domain_id", Id(), sa.ForeignKey("domain.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("section", Id(), primary_key=True),
    sa.Column("name", Id(), primary_key=True),
    sa.Column("sealed", sa.LargeBinary(), nullable=False),
)
directory_entries = sa.Table(
    "directory_entry",
    metadata,
    sa.Column("public_id", Id(), primary_key=True),  # also the id of the user or group
    sa.Column("domain_id", Id(), sa.ForeignKey("domain.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("kind", sa.String(5), nullable=False),  # user | group
    sa.Column("local_id", Name(), nullable=False),
    sa.Column("dn_key", Text(), nullable=False),  # of users: who is meant by the members of groups
    sa.Column("present", sa.Boolean(), nullable=False),  # whether the directory still has it
)
password_history = sa.Table(
    "password_history",
    metadata,
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("set_at", Timestamp(), primary_key=True),
    sa.Column("password_hash", Name(), nullable=False),
)
consumers = sa.Table(
    "consumer",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("description", Text(), nullable=True),
    sa.Column("sealed", sa.LargeBinary(), nullable=False),
)
oauth_request_tokens = sa.Table(
    "oauth_request_token",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("consumer_id", Id(), sa.ForeignKey("consumer.id", ondelete="CASCADE"), nullable=False),
    sa.Column("sealed", sa.LargeBinary(), nullable=False),
    sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    sa.Column("expires_at", Timestamp(), nullable=False, index=True),
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=True),
    sa.Column("verifier", Name(), nullable=True),
    sa.Column("role_ids", sa.JSON(), nullable=False),
)
oauth_access_tokens = sa.Table(
    "oauth_access_token",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("consumer_id", Id(), sa.ForeignKey("consumer.id", ondelete="CASCADE"), nullable=False),
    sa.Column("sealed", sa.LargeBinary(), nullable=False),
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("project_id", Id(), sa.ForeignKey("project.id", ondelete="CASCADE"), nullable=False),
    sa.Column("role_ids", sa.JSON(), nullable=False),
    sa.Column("expires_at", Timestamp(), nullable=False, index=True),
)
oauth_nonces = sa.Table(
    "oauth_nonce",
    metadata,
    sa.Column("digest", Id(), primary_key=True),
    sa.Column("expires_at", Timestamp(), nullable=False, index=True),
)
identity_providers = sa.Table(
    "identity_provider",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("domain_id", Id(), sa.ForeignKey("domain.id", ondelete="CASCADE"), nullable=False),
    sa.Column("description", Text(), nullable=True),
    sa.Column("enabled", sa.Boolean(), nullable=False),
    sa.Column("remote_ids", sa.JSON(), nullable=False),
)
service_providers = sa.Table(
    "service_provider",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("auth_url", Name(), nullable=False),
    sa.Column("sp_url", Name(), nullable=False),
    sa.Column("description", Text(), nullable=True),
    sa.Column("enabled", sa.Boolean(), nullable=False),
    sa.Column("relay_state_prefix", Name(), nullable=False),
)
mappings = sa.Table(
    "federation_mapping",
    metadata,
    sa.Column("id", Id(), primary_key=True),
    sa.Column("rules", sa.JSON(), nullable=False),
)
protocols = sa.Table(
    "federation_protocol",
    metadata,
    sa.Column("provider_id", Id(), sa.ForeignKey("identity_provider.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", Id(), primary_key=True),
    sa.Column("mapping_id", Id(), sa.ForeignKey("federation_mapping.id"), nullable=False),
)
federated_users = sa.Table(
    "federated_user",
    metadata,
    sa.Column("provider_id", Id(), sa.ForeignKey("identity_provider.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("unique_id", Name(), primary_key=True),
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("protocol_id", Id(), nullable=False),
)
federated_memberships = sa.Table(
    "federated_member",
    metadata,
    sa.Column("user_id", Id(), sa.ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("group_id", Id(), sa.ForeignKey("user_group.id", ondelete="CASCADE"), primary_key=True),
)
host_invitations = sa.Table(
    "host_invitation",
    metadata,
    sa.Column("id", Id(), primary_key=True),  # of the secret, its SHA-256
    sa.Column("host", Name(), nullable=False),
    sa.Column("roles", sa.JSON(), nullable=False),
    sa.Column("expires_at", Timestamp(), nullable=False, index=True),
    sa.Column("used_at", Timestamp(), nullable=True),
)
