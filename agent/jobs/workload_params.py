"""The parameters that ``workloads.toml`` declares, and the places they fill."""

from typing import Final

import msgspec

from agent.jobs import placeholders
from agent.jobs.definition import Definition
from agent.jobs.workload_place import NAME_WORDS, Place
from agent.jobs.workload_schema import SCHEMA
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.params import check_params
from qubix_tui.protocol.records import Workload, WorkloadParam
from qubix_tui.protocol.types import Id, Sentence

_NUMBERS: Final = frozenset({"integer", "number"})
_KINDS_WITH: Final = {"min": _NUMBERS, "max": _NUMBERS, "pattern": frozenset({"string"})}


def declaration(place: Place, content: object) -> WorkloadParam:
    """Read ``[workload.NAME.parameters.NAME]``.

    Raises:
        SettingsError: Something in it can't be used.
    """
    place.check_form(place.name, Id, NAME_WORDS)
    given = place.values(place.table(content), "parameter")
    kind = given.get("type")
    if kind is None:
        raise place.below("type").error(f"expected {SCHEMA.settings['parameter.type'].expected}")
    for key, kinds in _KINDS_WITH.items():
        if key in given and kind not in kinds:
            raise place.below(key).error(f"a parameter of type {kind} has no {key}")
    if "pattern" in given:
        here = place.below("pattern")
        here.check_form(
            given["pattern"], Sentence, "a pattern of at most 1024 characters, no control characters"
        )
        here.pattern(given["pattern"])
    if "min" in given and "max" in given and given["min"] > given["max"]:
        raise place.below("min").error("it is more than max")
    if "choices" in given:
        given["choices"] = list(given["choices"])
    param = WorkloadParam(**{**given, "name": place.name})
    _check_own_values(place, param)
    return param


def check_places(place: Place, definition: Definition) -> None:
    """Check that every place has a parameter, and every parameter a place.

    Raises:
        SettingsError: Not so, or a brace stands where it says nothing.
    """
    declared = {param.name for param in definition.params}
    command = place.below("command")
    used = {name for text in definition.command for name in _names(command, text, declared)}
    for variable, value in definition.environment.items():
        used.update(_names(place.below("environment", variable), value, declared))
    if _names(command, definition.command[0], declared):
        raise command.error("the program itself is not for a parameter to choose")
    for param in definition.params:
        if param.name not in used:
            here = place.below("parameters", param.name)
            raise here.error(f"the command and the environment have no place {{{param.name}}} for it")


def _names(place: Place, text: str, declared: set[str]) -> list[str]:
    try:
        names = placeholders.names(text)
    except placeholders.PlaceholderError as error:
        raise place.error(str(error)) from None
    for name in names:
        if name not in declared:
            raise place.error(f"{{{name}}} is the place of a parameter that is not declared")
    return names


def _check_own_values(place: Place, param: WorkloadParam) -> None:
    """Check that what the declaration itself names are values that a job could give."""
    if param.choices == []:
        raise place.below("choices").error("expected at least one")
    bare = Workload(name="this", params=[msgspec.structs.replace(param, default=None)])
    for key, values in (("choices", param.choices or []), ("default", [param.default])):
        for value in values:
            if value is None:
                continue
            try:
                check_params(bare, {param.name: value})
            except ProtocolError as error:
                raise place.below(key).error(error.message) from None
