"""The drawings: every format, with labels that try to break it."""

from __future__ import annotations

import re
import shutil
import struct
from xml.etree import ElementTree

import pytest

from kilonova.base.faults import Fault
from kilonova.trace.draw import FORMATS, draw, png
from kilonova.trace.measure import width_of, wrap
from kilonova.trace.sequence import Activation, Arrow, Block, Note, Participant, Section, Sequence
from kilonova.trace.unfold import from_spans

from .samples import Tracer, create_server

NASTY = "<script>alert('x')</script> & \"q\" ]]> ; # end %% \x00\x1b[31m \ud800 {a} `b` \\n"


def small() -> Sequence:
    t = Tracer()
    with t.span("nova_api", "POST /v2.1/servers"):
        t.note("policy: allowed")
        t.sql("INSERT servers")
        t.hop("nova_conductor", "build_instances", 0.002, "cast")
    return from_spans(t.spans, title="create")


def blocks() -> Sequence:
    yes = Section("key fits", [Arrow(source="b", target="b", label="open", took=0.001)])
    no = Section("else", [Note(over=("a", "b"), text="alarm\nand lights", failed=True)])
    inner = Block("loop", [Section("3 times", [Arrow(source="a", target="b", label="knock", opens=True)])])
    items = [Block("alt", [yes, no]), Block("opt", [Section("", [inner])]), Activation(participant="b", active=False)]
    return Sequence("door", [Participant("a", "A"), Participant("b", "The door")], items)


def test_text_is_one_row_per_event() -> None:
    assert draw(small(), "text").decode().splitlines() == [
        "create",
        "req-8d0d29b4-9f0c-4e5a-9d52-6b0f6e3f2a11 · 4.3 ms · 4 spans",
        "",
        f"{'':68}client nova_api     nova_conductor",
        f"{'':83}database",
        f"   0.0 ms  {'POST /v2.1/servers':60}├──────▶│       │       │",
        f"   0.6 ms  {'◆ policy: allowed':60}│       ◆       │       │",
        f"   0.7 ms  {'INSERT servers (1.2 ms)':60}│       ├──────▶│       │",
        f"   1.9 ms  {'build_instances':60}│       ├───────┼──────>│",
        f"   4.3 ms  {'  4.3 ms':60}│◁╌╌╌╌╌╌┤       │       │",
        f"{'':83}database",
        f"{'':68}client nova_api     nova_conductor",
    ]


def test_mermaid_source() -> None:
    assert draw(small(), "mermaid").decode() == (
        '---\ntitle: "create"\n---\nsequenceDiagram\n'
        "    participant client as client\n    participant nova_api as nova_api\n"
        "    participant database as database\n    participant nova_conductor as nova_conductor\n"
        "    client->>nova_api: POST /v2.1/servers\n    activate nova_api\n"
        "    Note over nova_api: policy: allowed\n"
        "    nova_api->>database: INSERT servers (1.2 ms)\n"
        "    nova_api-)nova_conductor: build_instances\n"
        "    nova_api-->>client: 4.3 ms\n    deactivate nova_api\n"
    )


def test_svg_is_valid_and_holds_every_label() -> None:
    for sequence in (from_spans(create_server()), from_spans(create_server(hosts=("a", "b"), fails_on=("a",)))):
        root = ElementTree.fromstring(draw(sequence, "svg"))
        words = " ".join("".join(root.itertext()).replace("\N{NO-BREAK SPACE}", " ").split())
        squeezed = words.replace(" ", "")
        for item in sequence.items:
            text = item.label if isinstance(item, Arrow) else item.text if isinstance(item, Note) else ""
            for line in text.split("\n"):
                head = re.split(r"[ /]", line.strip())[0]
                assert head.replace(" ", "") in squeezed
        for one in sequence.participants:
            assert words.count(one.label.split("\n", 1)[0]) >= 2  # above and below


def test_svg_keeps_everything_within_its_edges() -> None:
    root = ElementTree.fromstring(draw(from_spans(create_server(), detail=True), "svg"))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y, text = float(element.get("x", 0)), float(element.get("y", 0)), element.text or ""
        size = float(element.get("font-size", 12))
        wide = width_of(text, size, bold=element.get("font-weight") == "bold")
        left = x - {"middle": wide / 2, "end": wide}.get(element.get("text-anchor", ""), 0.0)
        assert left >= 0 and left + wide <= width and 0 < y < height, text


@pytest.mark.parametrize("format", [one for one in FORMATS if one != "png"])
def test_nasty_labels_stay_labels(format: str) -> None:
    arrow = Arrow(source="a", target="b", label=NASTY, opens=True)
    back = Arrow(source="b", target="a", label=f"✗ {NASTY}", style="return", closes=True, failed=True)
    items = [arrow, Note(over=("a",), text=NASTY), Block("opt", [Section(NASTY, [back])])]
    sequence = Sequence(NASTY, [Participant("a", NASTY), Participant("b", "end")], list(items))
    drawn = draw(sequence, format).decode()  # type: ignore[arg-type]
    assert "\x00" not in drawn and "\x1b" not in drawn
    if format == "svg":
        root = ElementTree.fromstring(drawn)
        assert not root.findall(".//{*}script")
        assert "<script>" in "".join(root.itertext())
    if format == "mermaid":
        assert "<script>" not in drawn
        assert not re.search(r"^\s*end\w", drawn, re.MULTILINE)


def test_blocks_are_drawn_in_every_format() -> None:
    text = draw(blocks(), "text").decode()
    assert "┌─ alt [key fits]" in text and "├─ else [else]" in text and "┌─ loop [3 times]" in text
    mermaid = draw(blocks(), "mermaid").decode()
    assert mermaid.count("\n    end\n") == 2 and "Note over a,b: alarm<br/>and lights" in mermaid
    shown = "".join(ElementTree.fromstring(draw(blocks(), "svg")).itertext())
    assert "[key fits]" in shown and "knock" in shown and "and lights" in shown


@pytest.mark.skipif(not shutil.which("rsvg-convert"), reason="rsvg-convert is missing: apt install librsvg2-bin")
def test_png_is_a_picture_at_twice_the_size() -> None:
    svg = draw(small(), "svg").decode()
    picture = draw(small(), "png")
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", picture[16:24])
    found = re.search(r'width="(\d+)" height="(\d+)"', svg)
    assert found and abs(width - 2 * int(found[1])) <= 1 and abs(height - 2 * int(found[2])) <= 1


def test_png_without_the_program_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Fault, match="rsvg-convert") as caught:
        draw(small(), "png")
    assert "librsvg2-bin" in caught.value.hint


def test_a_diagram_taller_than_pictures_can_be_is_refused() -> None:
    with pytest.raises(Fault, match="too tall"):
        png('<svg width="100" height="90000"/>')


def test_wrapping_never_loses_a_letter() -> None:
    text = "PUT /allocations/c2f1c3b0-6f1e-4b58-9b1f-52c7e3a1d9aa and then " + "x" * 200
    lines = wrap(text, 120, 12)
    assert all(width_of(line, 12) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
