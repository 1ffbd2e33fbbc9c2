"""WebSequenceDiagrams source: what is written is read back, and mistakes are named."""

from __future__ import annotations

import pytest

from kilonova.base.faults import Fault
from kilonova.trace.draw import draw
from kilonova.trace.sequence import Activation, Arrow, Block, Note, Participant
from kilonova.trace.unfold import from_spans
from kilonova.trace.wsd import parse_wsd, render_wsd

from .samples import create_server

WRITTEN = """
# a comment
title Pause a server
participant client
participant "Nova API" as api
actor "nova compute" as compute

client->+api: POST /servers/{id}/action {"pause"}
note over api: policy: allowed
note right of api
  two
  lines
end note
alt server is active
    api->>compute: pause_server
    activate compute
    loop until paused
        compute->compute: domain.suspend()
    end
    deactivate compute
else locked
    api-->client: ✗ 409
end
opt
    note over api, compute: both
end
api-->>-client: 202
"""


def test_reads_all_of_the_language() -> None:
    sequence = parse_wsd(WRITTEN)
    assert sequence.title == "Pause a server"
    assert sequence.participants == [
        Participant("client", "client"),
        Participant("api", "Nova API"),
        Participant("compute", "nova compute"),
    ]
    first, note, lines, alt, opt, last = sequence.items
    assert first == Arrow(source="client", target="api", label='POST /servers/{id}/action {"pause"}', opens=True)
    assert note == Note(over=("api",), text="policy: allowed")
    assert lines == Note(over=("api",), text="two\nlines", side="right of")
    assert isinstance(alt, Block) and [one.label for one in alt.sections] == ["server is active", "locked"]
    assert alt.sections[0].items[1] == Activation(participant="compute", active=True)
    assert isinstance(alt.sections[1].items[0], Arrow) and alt.sections[1].items[0].failed
    assert isinstance(opt, Block) and opt.sections[0].items == [Note(over=("api", "compute"), text="both")]
    assert last == Arrow(source="api", target="client", label="202", style="return", closes=True)
    for format in ("text", "svg", "mermaid"):
        assert draw(sequence, format)  # type: ignore[arg-type]


@pytest.mark.parametrize("hosts", [("node1",), ("node1", "node2")])
def test_written_source_reads_back_as_the_same_diagram(hosts: tuple[str, ...]) -> None:
    source = render_wsd(from_spans(create_server(hosts=hosts, fails_on=hosts[:-1])))
    again = render_wsd(parse_wsd(source))
    assert again.splitlines() == [line for line in source.splitlines() if not line.startswith("#")]
    assert render_wsd(parse_wsd(render_wsd(parse_wsd(WRITTEN)))) == render_wsd(parse_wsd(WRITTEN))


@pytest.mark.parametrize(
    ("source", "said", "expected"),
    [
        ("title", "line 1: a title without text", "title TEXT"),
        ("a->b: x\nnonsense", "line 2: cannot read: nonsense", "A->B: text"),
        ("alt x\na->b: y", "line 2: the source ends inside the alt of line 1", "end"),
        ("else", "line 1: else outside any alt", "alt before it"),
        ("opt x\nelse y\nend", "line 2: else inside the opt of line 1", "alt before it"),
        ("end", "line 1: end with nothing to end", "end only after"),
        ("note over a\nb", "line 2: the note of line 1 does not end", "end note"),
        ("note a: b", "line 1: not a note", "note over A"),
        ("a->", "line 1: an arrow without both ends", "A->B: TEXT"),
        ("activate", "line 1: activate of nobody", "activate NAME"),
        ("participant", "line 1: not a participant", "participant NAME"),
    ],
)
def test_a_mistake_names_the_line_and_what_was_expected(source: str, said: str, expected: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_wsd(source, name="x.wsd")
    assert f"x.wsd {said}" in caught.value.message
    assert expected in caught.value.hint
