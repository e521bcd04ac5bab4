"""What a job leaves: the JSON that it wrote, or how its first process ended."""

import signal
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.jobs.beneath import read_beneath
from qubix_tui.protocol.checks import check_encoding, check_integers, check_size, shorten_integers
from qubix_tui.protocol.errors import ProtocolError

RESULT_FILE: Final = ".qubix-result"

MAX_RESULT_BYTES: Final = 32 * 1024
"""Of a result as it is sent."""

_READ_BYTES: Final = 8 * MAX_RESULT_BYTES
"""Of the file, which may be written with many spaces."""

_DEPTH: Final = 24
"""Less than a message may have, for the result is inside of one."""


def read_result(directory: Path) -> tuple[Any, str | None]:
    """Read the result of a job that worked in ``directory``.

    Returns:
        The result, None without one; and why what is there can't be used, None where it can.
    """
    try:
        raw = read_beneath(directory, RESULT_FILE, limit=_READ_BYTES + 1)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"the result can't be read: {error.strerror or error}"
    if not raw.strip():
        return None, None
    try:
        check_size(raw, limit=_READ_BYTES, depth=_DEPTH)
        check_encoding(raw)
        result = msgspec.json.decode(shorten_integers(raw))
        check_integers(result, "")
    except ProtocolError as error:
        return None, f"the result can't be used: {error.message}"
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None, "the result is not JSON"
    if len(msgspec.json.encode(result)) > MAX_RESULT_BYTES:
        return None, f"the result is longer than {MAX_RESULT_BYTES} bytes"
    return result, None


def how_it_ended(exit_code: int | None) -> dict[str, Any]:
    """Say how a process ended: ``exitCode``, or ``signal`` for one that a signal ended."""
    if exit_code is None:
        return {}
    return {"exitCode": exit_code} if exit_code >= 0 else {"signal": exit_word(exit_code)}


def exit_word(exit_code: int | None) -> str | None:
    """Give an exit code as a word: its digits, or the name of the signal (a negative code); None for none."""
    if exit_code is None or exit_code >= 0:
        return None if exit_code is None else str(exit_code)
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"
