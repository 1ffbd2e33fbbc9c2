"""Draw: a sequence diagram as the bytes of a file, in any of the formats."""

from __future__ import annotations

import subprocess
from typing import Final, Literal

from kilonova.base.faults import Fault, Kind, invalid, unavailable
from kilonova.trace.mermaid import render_mermaid
from kilonova.trace.sequence import Sequence
from kilonova.trace.svg import render_svg
from kilonova.trace.text import render_text
from kilonova.trace.wsd import render_wsd

Format = Literal["text", "mermaid", "svg", "png", "wsd"]
FORMATS: Final[tuple[Format, ...]] = ("text", "mermaid", "svg", "png", "wsd")
SUFFIXES: Final[dict[Format, str]] = {"text": "txt", "mermaid": "mmd", "svg": "svg", "png": "png", "wsd": "wsd"}
PNG_SECONDS: Final = 60.0
PNG_SIDE: Final = 32_000  # pixels: the picture library's limit is 32767


def draw(sequence: Sequence, format: Format) -> bytes:
    """The diagram as a file's bytes: UTF-8 for all but `png`.

    PNG needs `rsvg-convert` and blocks for about a second: call it through `World.blocking`. Its absence, or a
    diagram too tall for a picture, is a Fault that says what to do.
    """
    if format == "png":
        return png(render_svg(sequence))
    if format == "svg":
        return render_svg(sequence).encode()
    if format == "mermaid":
        return render_mermaid(sequence).encode()
    if format == "wsd":
        return render_wsd(sequence).encode()
    if format == "text":
        return render_text(sequence).encode()
    raise invalid(f"Diagrams have no format {format}.", hint=f"Formats: {', '.join(FORMATS)}.", code="UnknownFormat")


def png(svg: str, *, zoom: float = 2.0) -> bytes:
    """A PNG of `svg` at `zoom` times its size (less when it would be taller than a picture may be)."""
    height, width = (float(svg.split(f'{side}="', 1)[1].split('"', 1)[0]) for side in ("height", "width"))
    scale = min(zoom, PNG_SIDE / max(height, width))
    if scale < 0.5:
        raise Fault(Kind.TOO_LARGE, "The diagram is too tall for a PNG.", hint="Draw it as SVG.")
    try:
        done = subprocess.run(
            ["rsvg-convert", "--format=png", f"--zoom={scale:.3f}"],
            input=svg.encode(),
            capture_output=True,
            timeout=PNG_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        hint = "Install it (Debian: apt install librsvg2-bin), or draw SVG."
        raise unavailable("PNG pictures need rsvg-convert, which is not installed.", hint=hint) from None
    except subprocess.TimeoutExpired:
        raise unavailable(f"rsvg-convert took over {PNG_SECONDS:.0f} s.", hint="Draw it as SVG.") from None
    if done.returncode or not done.stdout.startswith(b"\x89PNG"):
        said = done.stderr.decode(errors="replace").strip()
        raise unavailable("rsvg-convert could not draw the diagram.", hint="Draw it as SVG.", inside=said)
    return done.stdout
