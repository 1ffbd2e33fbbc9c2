"""docs/states.md, printed from the table."""

from __future__ import annotations

from kilonova.compute.server.states import ACTIONS, ANY, KEEPS, STATES, Action, status_of


def page() -> str:
    """The whole page as Markdown."""
    head = (
        "What may be done to a server in which state. Made from `kilonova/compute/server/states.py`, which the API "
        "enforces; anything else answers 409 and names the state and what is allowed."
    )
    always = ", ".join(f"`{row.name}`" for row in ACTIONS.values() if row.states == ANY)
    lines = ["# Server states", "", head, "", f"In every state, also for a server that never started: {always}.", ""]
    lines += ["| vm_state | status | allowed besides |", "| --- | --- | --- |"]
    offered = [row for row in ACTIONS.values() if not row.later]
    for state in STATES:
        mine = ", ".join(f"`{row.name}`" for row in offered if state in row.states and row.states != ANY)
        lines.append(f"| {state} | {status_of(state, '')} | {mine or 'nothing more'} |")
    later = ", ".join(f"`{row.name}`" for row in ACTIONS.values() if row.later)
    if later:
        lines += ["", f"Decided, but not offered yet: {later}. They stand in the table and the picture below."]
    lines += ["", "While a task runs, only the actions of the first line, and those that say so below, may begin.", ""]
    lines += ["| action | from | task_state | ends as | while a task runs |", "| --- | --- | --- | --- | --- |"]
    lines += [_row(row) for row in ACTIONS.values()]
    return "\n".join([*lines, "", "```mermaid", *_diagram(), "```", ""])


def _row(row: Action) -> str:
    from_states = "any" if row.states == ANY else ", ".join(s for s in STATES if s in row.states)
    if row.host_down:
        from_states += " (host down)"
    meanwhile = "yes" if "*" in row.interrupts else ", ".join(sorted(row.interrupts)) or "no"
    return f"| `{row.name}` | {from_states} | {row.busy or '–'} | {row.ends or 'as it was'} | {meanwhile} |"


def _diagram() -> list[str]:
    lines = ["stateDiagram-v2", "    [*] --> building: create", "    building --> active: create"]
    for row in ACTIONS.values():
        if row.ends != KEEPS and row.states != ANY:
            for state in STATES:
                if state in row.states and state != row.ends:
                    lines.append(f"    {_id(state)} --> {_id(row.ends)}: {row.name}")
    return lines


def _id(state: str) -> str:
    return state.replace("-", "_")
