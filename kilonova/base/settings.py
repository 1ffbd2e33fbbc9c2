"""Settings from one TOML file and the environment into frozen dataclasses, with errors that say where and what."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from kilonova.base.faults import invalid

T = TypeVar("T")


def read_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. A missing file or a syntax error is a Fault that names file, line and column."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise invalid(f"Settings file {path} does not exist.", hint="Check --config, or leave it out.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid(
            f"Settings file {path} is not valid TOML: {error}.", hint="Mend that line and try again."
        ) from None


def fill(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """An instance of dataclass `cls` from `table`; unknown keys and wrong types are Faults that name the key."""
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            import difflib  # only when a setting is wrong

            near = sorted(name for name in known if name.startswith(key)) or difflib.get_close_matches(key, known, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(sorted(known))}."
            raise invalid(f"Unknown setting {where}{key}.", hint=hint)
    values = {key: _convert(hints[key], value, f"{where}{key}") for key, value in table.items()}
    return cls(**values)


def overlay(cls: type[Any], table: dict[str, Any], environment: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """`table` with `PREFIX_SECTION_KEY` variables of the environment laid over it, parsed as TOML values."""
    merged = dict(table)
    for name, hint in typing.get_type_hints(cls).items():
        variable = f"{prefix}_{name.upper()}"
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            section = overlay(hint, dict(merged.get(name, {})), environment, variable)
            if section:
                merged[name] = section
        elif variable in environment:
            merged[name] = _parse(environment[variable], hint)
    return merged


def _parse(text: str, hint: Any) -> Any:
    if hint is str:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return fill(hint, value, f"{where}.")
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list):
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        inner = typing.get_args(hint)[1]
        return {key: _convert(inner, item, f"{where}.{key}") for key, item in value.items()}
    allowed = typing.get_args(hint) if origin in (typing.Union, types.UnionType) else (hint,)
    if hint is Any or any(_is(value, kind) for kind in allowed):
        return float(value) if hint is float else value
    names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in allowed)
    raise invalid(f"Setting {where} must be {names}, not {value!r}.", hint="See the operator's guide for its values.")


def _is(value: Any, kind: Any) -> bool:
    if kind is type(None):
        return value is None
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if kind in (int, float):
        return isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)
