"""`kilonova draw FILE.wsd`: a hand-written sequence diagram, rendered offline."""

from __future__ import annotations

import argparse

from kilonova.base.faults import invalid
from kilonova.cli.trace import emit
from kilonova.trace.draw import SUFFIXES, draw
from kilonova.trace.wsd import parse_wsd


def run(options: argparse.Namespace) -> int:
    """Render the file; an error names its line and what was expected there."""
    try:
        source = options.file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(f"{options.file} cannot be read: {error}.", hint="Give a WebSequenceDiagrams source.") from error
    drawn = draw(parse_wsd(source, name=str(options.file)), options.format)
    textual = options.output is None and options.format == "text"
    emit(drawn, None if textual else options.output or options.file.with_suffix(f".{SUFFIXES[options.format]}"))
    return 0
