"""Whether this machine takes jobs: what its owner wishes, which no hub can override."""

import logging
from pathlib import Path
from typing import Final

import msgspec

from agent.state import write_private
from qubix_tui.protocol.requests import SetStatus

UNREADABLE: Final = "the file of its owner's wishes can't be read"

_FILE: Final = "availability.json"

_logger = logging.getLogger("qubix_agent")


class Availability:
    """What the owner wishes, kept over a restart of the agent, and told to every hub that registers it.

    The file is there while the machine is kept back, and after that until a hub has heard that it is no more.

    Args:
        directory: The agent's state directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._wish = SetStatus(paused=False)
        self._kept = False
        self.hub_knows = False
        """Whether the hub has heard of the wish as it is now."""
        self._read()

    @property
    def wish(self) -> SetStatus:
        """What the owner wishes now."""
        return self._wish

    @property
    def takes_jobs(self) -> bool:
        """Whether a job may begin here."""
        return not (self._wish.paused or self._wish.draining)

    def why_not(self) -> str | None:
        """Give the reason why no job may begin here, None where one may."""
        if self.takes_jobs:
            return None
        said = "its owner keeps this machine" if self._wish.paused else "its owner drains this machine"
        return said if self._wish.reason is None else f"{said}: {self._wish.reason}"

    def to_tell(self) -> SetStatus | None:
        """Give what a hub has to hear that this provider registers with; None where the owner said nothing.

        A hub may have reasons of its own to keep a provider back: it is not told to lift them unasked.
        """
        return self._wish if self._kept or not self.takes_jobs else None

    def set(self, wish: SetStatus) -> None:
        """Take up a new wish.

        Raises:
            StateError: It can't be kept. It is in force all the same, until the agent ends.
        """
        self._wish, self.hub_knows = wish, False
        self._kept = True
        write_private(self._path, msgspec.json.encode(wish))

    def told(self, wish: SetStatus) -> None:
        """Note that the hub has heard of a wish."""
        if wish != self._wish:
            return
        self.hub_knows = True
        if self._kept and self.takes_jobs:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                _logger.warning("can't remove %s: %s", self._path, error.strerror)
            else:
                self._kept = False

    def _read(self) -> None:
        try:
            self._wish = msgspec.json.decode(self._path.read_bytes(), type=SetStatus)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            # What the owner wished is not known; that nobody takes the machine is the lesser evil.
            self._wish = SetStatus(paused=True, reason=UNREADABLE)
            _logger.warning("%s: %s; paused until qubix-agent resume", self._path, error)
        self._kept = True
