"""Logs: JSON lines with the request id and without secrets, to stderr and a rotated file; pretty on a terminal."""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from kilonova.base.units import MIB
from kilonova.trace.spans import current

HIDDEN: Final = "***"
FILE_BYTES: Final = 50 * MIB
FILES_KEPT: Final = 5
_DEPTH: Final = 8
_SECRET_KEY: Final = re.compile(
    r"(?:.*[-_.])?(?:password|passwd|pass|secret|token|authorization|api_?key|private_?key|fernet_?key|cookie|credential"
    r"|signature)s?(?:[-_]?(?:hash|data))?|(?:admin|root|user)pass(?:word)?|x-(?:auth|subject|service)-token|bootargs",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = re.compile(
    r"gAAAAA[\w-]{20,}={0,2}"  # a Fernet token
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"  # user and password of a URL
    r"|(?<=Bearer )[\w.~+/=-]{8,}|(?<=Basic )[\w+/=]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=password=)[^\s&,;]+|(?<=token=)[^\s&,;]+|(?<=secret=)[^\s&,;]+"
)


class Secret(str):
    """A string that is secret by type: it works as one, and shows as *** in logs and in the repr of what holds it.

    Formatting it into a longer string gives the text away: pass it to a logger as a value of its own.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret('{HIDDEN}')"

    def reveal(self) -> str:
        """The text itself, as a plain string."""
        return str.__str__(self)[:]


def redact(value: Any, depth: int = 0) -> Any:
    """`value` without secrets: by type (Secret), key (password, token, …) and look (Fernet tokens, URLs' passwords)."""
    if isinstance(value, Secret | bytes):
        return HIDDEN
    if isinstance(value, str):
        return _SECRET_TEXT.sub(HIDDEN, value)
    if isinstance(value, bool | int | float) or value is None:
        return value
    if depth >= _DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            str(key): HIDDEN if _SECRET_KEY.fullmatch(str(key)) and held else redact(held, depth + 1)
            for key, held in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(one, depth + 1) for one in value]
    return _SECRET_TEXT.sub(HIDDEN, repr(value))


def configure_logging(level: str = "INFO", file: Path | None = None, *, pretty: bool | None = None) -> None:
    """Send structlog's and the standard library's records to stderr, and to `file` when given, 5 × 50 MiB rotated.

    The file always holds JSON lines. stderr does too unless `pretty`, which is chosen by whether it is a terminal
    when None. Called again (SIGHUP) it replaces what it set up before.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _with_request,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    terminal = sys.stderr.isatty() if pretty is None else pretty
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(_formatter(shared, pretty=terminal))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        rotated = logging.handlers.RotatingFileHandler(file, maxBytes=FILE_BYTES, backupCount=FILES_KEPT)
        rotated.setFormatter(_formatter(shared, pretty=False))
        handlers.append(rotated)
    root = logging.getLogger()
    for old in list(root.handlers):
        if getattr(old, "kilonova", False):
            root.removeHandler(old)
            old.close()
    for handler in handlers:
        handler.kilonova = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(level.upper())
    for chatty in ("alembic", "uvicorn.error", "httpx"):  # their INFO says nothing to an operator
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _formatter(shared: list[Any], *, pretty: bool) -> logging.Formatter:
    last: list[Any] = (
        [_redacted, structlog.dev.ConsoleRenderer()]
        if pretty
        else [structlog.processors.format_exc_info, _redacted, structlog.processors.JSONRenderer(_to_json)]
    )
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, *last])


def _with_request(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    context = current()
    if context is not None:
        event.setdefault("request_id", context.request_id or context.trace_id)
        event.setdefault("participant", context.participant)
    return event


def _redacted(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    trouble = event.pop("exc_info", None)  # the console renderer wants it as it is
    kept: dict[str, Any] = redact(event)
    if trouble:
        kept["exception"] = redact(structlog.processors.format_exc_info(None, "", {"exc_info": trouble})["exception"])
    return kept


def _to_json(event: Any, **_options: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
