"""The palette: every action of the screen, every view, provider and job, by a few letters of its name."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from qubix_tui.console.command import Command
from qubix_tui.console.format import safe
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.themes import THEMES

if TYPE_CHECKING:
    from qubix_tui.console.app import QubixApp

MOST_HITS: Final = 40
"""Names shown for what was typed: nobody reads on, each costs a line to lay out."""


class ConsoleCommands(Provider):
    """Finds commands, providers and jobs."""

    @property
    def _console(self) -> "QubixApp":
        return cast("QubixApp", self.app)

    async def discover(self) -> Hits:
        """Give what is there before anything is typed: the actions."""
        for command in self._actions():
            yield DiscoveryHit(Content(command.name), command.run, text=command.name, help=command.help)

    async def search(self, query: str) -> Hits:
        """Give the best matches of actions, themes, providers and jobs."""
        letters = query.strip().lower()
        found: list[tuple[float, Command]] = []
        for command in self._all():
            worth = score(letters, command.name.lower())
            if worth > 0:
                found.append((worth, command))
        found.sort(key=lambda one: (-one[0], len(one[1].name), one[1].name))
        for worth, command in found[:MOST_HITS]:
            shown = self._marked(command.name, letters)
            yield Hit(worth, shown, command.run, text=command.name, help=command.help)

    def _all(self) -> Iterator[Command]:
        yield from self._actions()
        app = self._console
        if isinstance(self.screen, ConsoleScreen):
            yield from self.screen.commands()
        if app.store.path is not None and not app.store.path.exists():
            where = f"A commented {app.store.path.name} with every default"
            yield Command("Write a file of settings", where, partial(_write_settings, app))
        for theme in THEMES:
            name = theme.name.removeprefix("qubix-")
            yield Command(f"Theme: {name}", "Change the colours", partial(app.choose_theme, theme.name))
        for row in list(app.fleet.rows.values()):
            provider_id = row.record.id
            yield Command(safe(row.name), f"Provider {provider_id}", partial(app.open_provider, provider_id))
        for job in [row.job for row in app.jobs.rows.values()]:
            yield Command(job.id, f"Job {job.workload}, {job.state}", partial(app.open_job, job.id))

    def _actions(self) -> Iterator[Command]:
        seen = {None, "app.palette", "app.interrupt"}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.id in seen or not active.enabled:
                continue
            seen.add(binding.id)
            key = self.app.get_key_display(binding)
            words = binding.tooltip or binding.description
            run = partial(self.app.run_action, binding.action, active.node)
            yield Command(words, f"key {key}", run)

    def _marked(self, name: str, letters: str) -> Content:
        content = Content(name)
        if self.match_style is None:
            return content
        for place in places_of(letters, name.lower()):
            content = content.stylize(self.match_style, place, place + 1)
        return content


def score(letters: str, name: str) -> float:
    """Say how well a name fits what was typed, 0 for not at all up to 1.

    Best is the name itself, then its beginning, the beginning of one of its words, any part of it, and at
    last its letters in their order with others between.
    """
    if not letters:
        return 0.0
    if letters == name:
        return 1.0
    place = name.find(letters)
    if place == 0:
        return 0.9
    if place > 0:
        return 0.6 if name[place - 1].isalnum() else 0.8
    places = places_of(letters, name)
    if not places:
        return 0.0
    spread = places[-1] - places[0] + 1
    return 0.5 * len(letters) / spread


def places_of(letters: str, name: str) -> list[int]:
    """Give where the letters stand in a name; nothing if they do not all stand there in their order."""
    start = name.find(letters)
    if start >= 0:
        return list(range(start, start + len(letters)))
    places: list[int] = []
    at = 0
    for letter in letters:
        if letter == " ":
            continue
        at = name.find(letter, at)
        if at < 0:
            return []
        places.append(at)
        at += 1
    return places


def _write_settings(app: "QubixApp") -> None:
    try:
        path = app.store.write_template()
    except OSError as error:
        app.notify(f"It can't be written: {error.strerror or error}.", markup=False)
    else:
        app.notify(f"{safe(str(path))} is there; it is read at the next start.", markup=False)
