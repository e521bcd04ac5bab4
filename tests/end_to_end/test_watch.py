"""`qubix watch` as a process."""

import json
import signal
from pathlib import Path

from qubix_tui.cli.watch import printable
from tests.end_to_end.processes import first_line, hub_process, started
from tests.end_to_end.terminal import terminal


def test_it_prints_the_exact_bytes_one_event_a_line(tmp_path: Path) -> None:
    """Into a pipe: one published event a line, flushed at once; Ctrl-C ends it with 130."""
    with (
        hub_process(tmp_path) as (_, url),
        started(["qubix", "watch", "provider:*", "marketplace", "--hub", url], tmp_path) as watching,
        started(["qubix", "simulate", "--providers", "1", "--hz", "5", "--hub", url], tmp_path),
    ):
        assert watching.stdout is not None
        seen = {json.loads(first_line(watching))["type"] for _ in range(4)}
        assert seen <= {
            "PROVIDER_REGISTERED",
            "GPU_METRICS_UPDATE",
            "PROVIDER_STATUS_CHANGED",
            "MARKETPLACE_UPDATE",
        }
        while "GPU_METRICS_UPDATE" not in seen:
            event = json.loads(first_line(watching))
            seen.add(event["type"])
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=10)
        assert watching.returncode == 130


def test_on_a_terminal_it_shows_events_too(tmp_path: Path) -> None:
    """On a terminal the same lines appear, and Ctrl-C ends it."""
    with (
        hub_process(tmp_path) as (_, url),
        terminal(["qubix", "watch", "provider:*", "--hub", url], tmp_path, columns=200) as shown,
        started(["qubix", "simulate", "--providers", "1", "--hz", "5", "--hub", url], tmp_path),
    ):
        shown.wait_for('"type":"GPU_METRICS_UPDATE"')
        shown.press("\x03")
        assert shown.wait_end() == 130


def test_control_characters_are_escaped_for_a_terminal() -> None:
    """What a terminal could obey is shown as a JSON escape: the line still means the same."""
    raw = json.dumps({"text": "a\x9b31m\u202eb\x7f é 界 😀"}, ensure_ascii=False).encode()
    shown = printable(raw)
    assert json.loads(shown) == json.loads(raw)
    assert b"\x7f" not in shown
    assert "\x9b".encode() not in shown
    assert "\u202e".encode() not in shown
    assert "é 界 😀".encode() in shown
