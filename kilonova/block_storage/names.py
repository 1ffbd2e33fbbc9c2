"""Names and other short texts that users give."""

from __future__ import annotations

from typing import Any

from kilonova.base.faults import invalid

LONGEST = 255


def checked_text(value: Any, field: str) -> str | None:
    """The text, stripped; None stays None. INVALID when it is no text or longer than 255 characters."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid(f"Invalid input for field {field}: it must be a string.")
    if len(value) > LONGEST:
        raise invalid(f"Invalid input for field {field}: it has more than {LONGEST} characters.")
    return value.strip()


def checked_pairs(values: Any, field: str) -> dict[str, str]:
    """{key: text} with keys of 1 to 255 and texts of at most 255 characters. Else INVALID."""
    if not isinstance(values, dict):
        raise invalid(f"Invalid input for field {field}: it must be an object.")
    made = {}
    for key, value in values.items():
        if not 0 < len(key) <= LONGEST:
            raise invalid(f"Invalid input for field {field}: a key must have 1 to {LONGEST} characters.")
        if not isinstance(value, str) or len(value) > LONGEST:
            raise invalid(f"Invalid input for field {field}.{key[:60]}: it must be a string of at most {LONGEST}.")
        made[key] = value
    return made


def checked_size(value: Any, field: str) -> int:
    """GiB, a whole number from 1; digits in a string are taken too. Else INVALID."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise invalid(
            f"Invalid input received: Volume {field} {str(value)[:40]!r} must be an integer and greater than 0."
        )
    return value


def checked_flag(value: Any, field: str) -> bool:
    """True or false in the forms that the field accepts. Else INVALID."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("1", "t", "true", "on", "y", "yes"):
        return True
    if text in ("0", "f", "false", "off", "n", "no"):
        return False
    raise invalid(f"Invalid input for field {field}: {str(value)[:40]!r} is not a boolean.")


def checked_metadata(values: Any) -> dict[str, str]:
    """Metadata as it may be stored. Else INVALID."""
    return checked_pairs(values, "metadata")
