"""Talking to a directory, through OpenLDAP's library: functions that block, to be run in threads.

Every wait has an end: for a connection, for TLS, for each answer. Host names of certificates are checked.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import ldap
import ldap.controls
import ldap.dn

from kilonova.base.faults import Fault, Kind, unavailable
from kilonova.identity.ldap.entries import Entry
from kilonova.identity.ldap.options import LdapOptions

ENTRIES_MAXIMUM = 200_000  # a directory with more is narrowed by user_filter or user_tree_dn
PAGE_SECONDS = 30.0  # for the answer to one question, which may be very many entries
_SCOPES = {"one": ldap.SCOPE_ONELEVEL, "sub": ldap.SCOPE_SUBTREE}
_DEREF = {
    "never": ldap.DEREF_NEVER,
    "searching": ldap.DEREF_SEARCHING,
    "finding": ldap.DEREF_FINDING,
    "always": ldap.DEREF_ALWAYS,
}
_CHECKS = {
    "demand": ldap.OPT_X_TLS_DEMAND,
    "allow": ldap.OPT_X_TLS_ALLOW,
    "never": ldap.OPT_X_TLS_NEVER,
}
_NOT_THERE = (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT, ldap.UNAVAILABLE, ldap.BUSY, ldap.TIMELIMIT_EXCEEDED)
AWAY = "DirectoryAway"  # the code of faults that mean: asking again now is of no use


def connect(options: LdapOptions) -> Any:
    """A connection, encrypted when the options say so, and nobody's yet. UNAVAILABLE when there is none to be had."""
    if not options.is_ldap:
        raise unavailable(
            "The url of this domain's directory is none of a directory.",
            hint="It begins with ldap://, ldaps:// or ldapi://: mend the domain's configuration.",
        )
    if not options.is_private:
        raise unavailable(
            "The directory of this domain is not asked over a connection that others can read.",
            hint="Set use_tls to true in the domain's configuration, or use a url that begins with ldaps://.",
        )
    try:
        link = ldap.initialize(" ".join(_awake(options)))
        link.protocol_version = ldap.VERSION3
        seconds = options.connect_seconds
        link.set_option(ldap.OPT_NETWORK_TIMEOUT, seconds)
        link.set_option(ldap.OPT_TIMEOUT, seconds)
        link.timeout = seconds
        link.set_option(ldap.OPT_REFERRALS, int(bool(options.chase_referrals)))
        if options.alias_dereferencing in _DEREF:
            link.set_option(ldap.OPT_DEREF, _DEREF[options.alias_dereferencing])
        _set_tls(link, options)
        if options.use_tls and not options.url.startswith("ldaps"):
            link.start_tls_s()
    except ldap.LDAPError as error:
        raise away(error) from None
    return link


def _awake(options: LdapOptions) -> list[str]:
    """The URLs to try. OpenLDAP's library waits for ever for a server that takes a TLS connection and says nothing, so
    such a one is found out first; nothing is said to it, and who it is, is checked by the connection that follows."""
    urls = options.url.replace(",", " ").split()
    found = [url for url in urls if not url.startswith("ldaps") or _shakes_hands(url, options.connect_seconds)]
    if not found:
        raise silent("no server takes a TLS connection")
    return found


def _shakes_hands(url: str, seconds: float) -> bool:
    parts, context = urlsplit(url), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = parts.hostname or "localhost"
    try:
        with socket.create_connection((host, parts.port or 636), seconds) as raw:
            context.wrap_socket(raw, server_hostname=host).close()
    except OSError:
        return False
    return True


def _set_tls(link: Any, options: LdapOptions) -> None:
    """How certificates are checked, of this connection only."""
    link.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, _CHECKS[options.tls_req_cert])
    if options.tls_cacertfile:
        link.set_option(ldap.OPT_X_TLS_CACERTFILE, options.tls_cacertfile)
    if options.tls_cacertdir:
        link.set_option(ldap.OPT_X_TLS_CACERTDIR, options.tls_cacertdir)
    link.set_option(ldap.OPT_X_TLS_NEWCTX, 0)


def sign_in(options: LdapOptions) -> Any:
    """A connection of the account that identity reads with; without one, of nobody."""
    link = connect(options)
    try:
        link.simple_bind_s(options.user or "", (options.password or "") if options.user else "")
    except ldap.LDAPError as error:
        close(link)
        raise away(error) from None
    return link


def admits(options: LdapOptions, dn: str, password: str) -> bool:
    """Whether the directory takes the password for that of `dn`. An empty one is nobody's: LDAP would let it in."""
    if not dn or not password:
        return False
    link = connect(options)
    try:
        link.simple_bind_s(dn, password)
    except _NOT_THERE as error:
        raise away(error) from None
    except (ldap.LDAPError, ValueError):  # wrong, expired or locked there; or not a distinguished name at all
        return False
    finally:
        close(link)
    return True


def nobodys_dn(options: LdapOptions, word: str) -> str:
    """Where nobody is: asked about like a user, so that the time tells nothing."""
    return f"{options.user_id_attribute}={ldap.dn.escape_dn_chars(word)},{options.user_tree}"


def search(link: Any, options: LdapOptions, base: str, filter_: str, attributes: list[str]) -> list[Entry]:
    """Entries below `base`, page by page where pages are asked for. UNAVAILABLE for what cannot be read."""
    return _paged(link, (base, _SCOPES[options.query_scope], filter_, attributes), options)


def read_one(link: Any, options: LdapOptions, dn: str, attributes: list[str]) -> Entry | None:
    """The entry of that name; None when there is none."""
    try:
        found = link.search_ext_s(dn, ldap.SCOPE_BASE, attrlist=attributes, timeout=options.connect_seconds)
    except ldap.NO_SUCH_OBJECT:
        return None
    return (str(found[0][0]), found[0][1]) if found else None


def _paged(link: Any, query: tuple[str, int, str, list[str]], options: LdapOptions) -> list[Entry]:
    base, scope, filter_, attributes = query
    size, cookie, found = options.page_size, b"", list[Entry]()
    while True:
        pages = [ldap.controls.SimplePagedResultsControl(True, size, cookie)] if size else None
        asked = link.search_ext(base, scope, filter_, attributes, serverctrls=pages)
        _, entries, _, controls = link.result3(asked, timeout=max(PAGE_SECONDS, options.connect_seconds))
        # a referral to another server has no name; it is not followed with our password
        found += [(str(dn), values) for dn, values in entries if dn is not None]
        if len(found) > ENTRIES_MAXIMUM:
            raise unavailable(
                f"The directory of this domain has more than {ENTRIES_MAXIMUM} such entries.",
                hint="Narrow it by user_tree_dn, user_filter, group_tree_dn and group_filter.",
            )
        cookies = [
            one.cookie for one in controls if one.controlType == ldap.controls.SimplePagedResultsControl.controlType
        ]
        cookie = cookies[0] if cookies and cookies[0] else b""
        if not size or not cookie:
            return found


def close(link: Any) -> None:
    """Let go of a connection, whatever its state."""
    try:
        link.unbind_ext_s()
    except ldap.LDAPError:
        return


def silent(inside: str) -> Fault:
    """UNAVAILABLE for a directory that does not answer."""
    message, hint = "The directory of this domain does not answer.", "Try again later."
    return Fault(Kind.UNAVAILABLE, message, hint=hint, inside=inside, code=AWAY)


def away(error: ldap.LDAPError) -> Fault:
    """UNAVAILABLE for whatever kept a directory from answering; what it was is for the log only."""
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    said = f"{type(error).__name__}: {details.get('desc', '')} {details.get('info', '')}".strip()
    if isinstance(error, _NOT_THERE):
        return silent(said)
    if isinstance(error, ldap.SIZELIMIT_EXCEEDED):
        return unavailable(
            "The directory of this domain has more entries than it tells.",
            hint="Set page_size in the domain's configuration, or narrow it by user_filter and user_tree_dn.",
            inside=said,
        )
    return unavailable(
        "The directory of this domain cannot be read.",
        hint="Its administrator finds the reason in identity's log: an account, a tree or a filter that is wrong.",
        inside=said,
    )
