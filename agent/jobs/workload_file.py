"""Reads ``workloads.toml``: what an owner allows to be run.

Every error names the line, the key, and what was expected there.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.jobs.container import IMAGE_PATTERN
from agent.jobs.definition import Definition
from agent.jobs.launch import Limits, ProgressSource
from agent.jobs.workload_params import check_places, declaration
from agent.jobs.workload_place import NAME_WORDS, Place
from agent.jobs.workload_schema import MIB, SCHEMA
from qubix_tui.protocol.types import Id, Sentence
from qubix_tui.settings import document
from qubix_tui.settings.document import Document
from qubix_tui.settings.schema import SettingsError, shown

FILE_NAME: Final = SCHEMA.file_name
BUILT_IN: Final = "benchmark"

_TABLES: Final = ("environment", "limits", "parameters")
_TAKEN_AS_GIVEN: Final = ("no_progress_seconds", "grace_seconds", "sandbox", "image", "network", "read")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SET_BY_AGENT: Final = frozenset({"CUDA_VISIBLE_DEVICES", "HOME", "TMPDIR"})
_GROUP_WORDS: Final = "(?P<percent>…), (?P<fraction>…), or (?P<done>…) and (?P<total>…)"


class WorkloadFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says."""

    benchmark: bool = True
    """Whether the built-in workload is offered."""
    workloads: tuple[Definition, ...] = ()


def read(path: Path) -> WorkloadFile:
    """Read a file that only its owner can have written.

    Raises:
        SettingsError: It can't be read, others may write it, or something in it can't be used.
    """
    file = document.read(path, file_name=FILE_NAME, init=f"{SCHEMA.command} init")
    check_trust(path)
    return parse(file)


def check_trust(path: Path) -> None:
    """Refuse a file that others could have written: what it says is run on this machine.

    Raises:
        SettingsError: It, or its directory, belongs to somebody else or can be written by others; the message
            says how to mend it.
    """
    user = os.geteuid()
    # A person's own group is often nobody else's; what root runs has to be root's alone.
    others = stat.S_IWGRP | stat.S_IWOTH if user == 0 else stat.S_IWOTH
    directory = path.absolute().parent
    for one in (path, directory):
        found = one.stat()
        if found.st_uid not in {0, user}:
            raise SettingsError(
                f"{one} is user {found.st_uid}'s, who could have anything run here; `chown {user} {one}`"
            )
        # In a directory such as /tmp nobody can replace another's file.
        if found.st_mode & others and not (one == directory and found.st_mode & stat.S_ISVTX):
            raise SettingsError(f"others may write {one}, and so have anything run here; `chmod go-w {one}`")


def parse(file: Document) -> WorkloadFile:
    """Read the definitions in a document.

    Raises:
        SettingsError: Something in it can't be used.
    """
    top = Place(file)
    benchmark = file.content.get(BUILT_IN, True)
    if not isinstance(benchmark, bool):
        raise top.below(BUILT_IN).error(f"expected true or false, not {shown(benchmark)}")
    for key in file.content:
        if key not in {BUILT_IN, "workload"}:
            raise top.below(key).unknown((BUILT_IN, "workload"), "workloads are tables, [workload.NAME]")
    place = top.below("workload")
    tables = place.table(file.content.get("workload", {}))
    return WorkloadFile(
        benchmark=benchmark,
        workloads=tuple(_definition(place.below(name), content) for name, content in tables.items()),
    )


def _definition(place: Place, content: object) -> Definition:
    place.check_form(place.name, Id, NAME_WORDS)
    if place.name == BUILT_IN:
        raise place.error("this name is the built-in workload's: choose another")
    table = place.table(content)
    given = place.values(table, "workload", _TABLES)
    command = given.get("command")
    if not command or not command[0] or "\0" in "".join(command):
        raise place.below("command").error('expected the program and its arguments, ["like", "this"]')
    if "/" in command[0] and not Path(command[0]).is_absolute():
        raise place.below("command").error("the program is a name, or a path that begins with /")
    if "description" in given:
        here = place.below("description")
        here.check_form(given["description"], Sentence, "one line of at most 1024 characters")
    parameters = place.below("parameters")
    definition = Definition(
        name=place.name,
        description=given.get("description"),
        command=command,
        params=tuple(
            declaration(parameters.below(name), one)
            for name, one in parameters.table(table.get("parameters", {})).items()
        ),
        environment=_environment(place.below("environment"), table.get("environment", {})),
        gpus=None if given.get("gpus") == "all" else given.get("gpus", 0),
        limits=_limits(place.below("limits"), table.get("limits", {})),
        progress=_progress(place.below("progress"), given.get("progress", "json")),
        **{key: given[key] for key in _TAKEN_AS_GIVEN if key in given},
    )
    _check_sandbox(place, definition, given)
    check_places(place, definition)
    return definition


def _limits(place: Place, content: object) -> Limits:
    given = place.values(place.table(content), "limits")
    memory, log = given.get("memory_mb"), given.get("log_mb")
    chosen = {
        "memory_bytes": None if memory is None else memory * MIB,
        "cpu_cores": given.get("cpu_cores"),
        "cpu_seconds": given.get("cpu_seconds"),
        "wall_seconds": given.get("wall_seconds"),
        "log_bytes": None if log is None else round(log * MIB),
        "max_processes": given.get("processes"),
        "open_files": given.get("open_files"),
    }
    return Limits(**{key: value for key, value in chosen.items() if value is not None})


def _environment(place: Place, content: object) -> dict[str, str]:
    table = place.table(content)
    for name, value in table.items():
        here = place.below(name)
        if not _VARIABLE.fullmatch(name):
            raise here.error("the name of a variable has letters, digits and _ alone, and no digit first")
        if name in _SET_BY_AGENT or name.startswith("QUBIX_"):
            raise here.error("the agent sets this one itself")
        if not isinstance(value, str) or "\0" in value:
            raise here.error(f'expected a text in quotes, "like this", not {shown(value)}')
    return table


def _progress(place: Place, value: str | Mapping[str, Any]) -> ProgressSource:
    if isinstance(value, str):
        return msgspec.convert({"kind": value}, ProgressSource)
    match dict(value):
        case {"fraction_file": str() as name, **rest} if not rest:
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise place.error("fraction_file is a path inside the job's working directory")
            return ProgressSource(kind="fraction_file", path=name)
        case {"regex": str() as pattern, **rest} if not rest:
            compiled = place.pattern(pattern)
            named = set(compiled.groupindex)
            says = named & {"percent", "fraction"} or {"done", "total"} <= named
            if not says and (named or not compiled.groups):
                raise place.error(f"regex needs a group that tells how far the job is: {_GROUP_WORDS}")
            return ProgressSource(kind="regex", pattern=pattern)
    raise place.error(f"expected {SCHEMA.settings['workload.progress'].expected}")


def _check_sandbox(place: Place, definition: Definition, given: Mapping[str, Any]) -> None:
    kind = definition.sandbox
    if kind == "container":
        if definition.image is None or not IMAGE_PATTERN.fullmatch(definition.image):
            raise place.below("image").error("expected an image with its digest: name@sha256:…, 64 digits")
    elif definition.image is not None:
        raise place.below("image").error(f'an image is of sandbox = "container"; here it is "{kind}"')
    if kind == "none":
        for key in ("network", "read"):
            if key in given:
                raise place.below(key).error('sandbox = "none" withholds nothing: take this line away')
    for one in definition.read:
        if not Path(one).is_absolute() or ".." in Path(one).parts or ":" in one:
            raise place.below("read").error(f"expected absolute paths without .. and :, not {shown(one)}")
