"""What a look at one thing gave, as a value and as lines for people."""

import textwrap
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

WIDTH: Final = 80

_GLYPHS: Final = {"ok": "✓", "warn": "!", "fail": "✗", "skip": "-"}
_ASCII_GLYPHS: Final = {"ok": "+", "warn": "!", "fail": "x", "skip": "-"}
_ASCII: Final = str.maketrans({"—": "-", "…": "...", "“": '"', "”": '"', "’": "'"})
_LABEL_WIDTH: Final = 17


class State(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    """This machine can serve, but not as well as it could."""
    FAIL = "fail"
    """It can't serve like that."""
    SKIP = "skip"
    """It was not looked at; what was seen says why."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        check: Its name.
        state: How it is.
        seen: What was seen.
        needed: What has to be seen there; None where anything will do.
        remedy: What to do about it; None where nothing has to be done.
    """

    check: str
    state: State
    seen: str
    needed: str | None = None
    remedy: str | None = None


def can_serve(findings: Iterable[Finding]) -> bool:
    """Whether nothing that was seen keeps this machine from serving."""
    return all(finding.state is not State.FAIL for finding in findings)


def lines(findings: Iterable[Finding], *, ascii_only: bool) -> Iterator[str]:
    """Give the lines for people, at most `WIDTH` characters wide.

    Args:
        findings: In the order to show them.
        ascii_only: Whether only ASCII may be used.
    """
    for finding in findings:
        for line in _lines_of(finding, _ASCII_GLYPHS if ascii_only else _GLYPHS):
            yield line.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else line


def _lines_of(finding: Finding, glyphs: dict[str, str]) -> Iterator[str]:
    head = f"{glyphs[finding.state]} {finding.state:<5}{finding.check:<{_LABEL_WIDTH}}"
    margin = " " * len(head)
    yield from _wrapped(finding.seen, head, margin)
    if finding.state in {State.WARN, State.FAIL}:
        for label, text in (("needed", finding.needed), ("remedy", finding.remedy)):
            if text is not None:
                yield from _wrapped(text, f"{margin}{label}: ", f"{margin}{' ' * len(label)}  ")


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    ) or [first.rstrip()]
