"""Logs and metrics: lines carry the request, and no secret gets through."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from kilonova.trace import metrics
from kilonova.trace.logs import Secret, configure_logging, redact
from kilonova.trace.spans import begin, within

FERNET = "gAAAAABm" + "x" * 60


@pytest.fixture(autouse=True)
def logging_put_back() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_are_json_with_the_request_and_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", tmp_path / "kilonova.log", pretty=False)
    configure_logging("INFO", tmp_path / "kilonova.log", pretty=False)  # again, as SIGHUP does
    with within(begin("nova_api", request_id="req-1")):
        structlog.get_logger("kilonova").info("server made", server="s1", adminPass="hunter2", token=FERNET)
        logging.getLogger("some.library").warning("GET /x %s", FERNET)
        structlog.get_logger("kilonova").debug("not shown")
        try:
            raise ValueError("amqp://guest:hunter2@broker refused")
        except ValueError:
            structlog.get_logger("kilonova").exception("broker", headers={"X-Auth-Token": "hunter2", "Accept": "*/*"})
    lines = [json.loads(line) for line in (tmp_path / "kilonova.log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["server made", "GET /x ***", "broker"]
    assert all(line["request_id"] == "req-1" and line["participant"] == "nova_api" for line in lines)
    assert lines[0]["adminPass"] == lines[0]["token"] == "***" and lines[0]["server"] == "s1"
    assert lines[2]["headers"] == {"X-Auth-Token": "***", "Accept": "*/*"}
    assert "ValueError" in lines[2]["exception"]
    everything = (tmp_path / "kilonova.log").read_text() + capsys.readouterr().err
    assert "hunter2" not in everything and FERNET not in everything
    assert (tmp_path / "kilonova.log").stat().st_mode & 0o077 == 0


def test_pretty_hides_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", pretty=True)
    structlog.get_logger("kilonova").warning("login", password="hunter2", user="ada")
    said = capsys.readouterr().err
    assert "login" in said and "ada" in said and "hunter2" not in said


@pytest.mark.parametrize(
    "key", ["password", "adminPass", "x-subject-token", "Authorization", "db_password", "client_secret"]
)
def test_secret_by_key(key: str) -> None:
    assert redact({"a": [{key: "hunter2"}]}) == {"a": [{key: "***"}]}


def test_what_is_no_secret_stays() -> None:
    kept = {"server": "s1", "seconds": 1.5, "passed": 3, "tokenizer": "x", "key_name": "mykey", "error": None}
    assert redact(kept) == kept


def test_secret_by_type() -> None:
    held = Secret("hunter2")
    assert redact({"value": held}) == {"value": "***"}
    assert "hunter2" not in repr([held]) and held.reveal() == "hunter2" and type(held.reveal()) is str


def test_metrics_are_exposed() -> None:
    metrics.http_request(("compute", "GET", "/servers/{id}", "200"), 0.004)
    metrics.db_unit(("compute", "write"), 0.002)
    metrics.bus_message("compute.node1", "cast", "sent")
    metrics.loop_lag(-0.1)
    metrics.watch("descriptors", lambda: 40)
    shown = metrics.exposition().decode()
    assert (
        'kilonova_http_request_seconds_count{method="GET",route="/servers/{id}",service="compute",status="200"}'
        in shown
    )
    assert 'kilonova_bus_messages_total{outcome="sent",topic="compute",verb="cast"} 1.0' in shown
    assert "node1" not in shown and 'kilonova_open{what="descriptors"} 40.0' in shown
