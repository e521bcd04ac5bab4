"""The file that an owner begins with: it allows nothing yet, and shows every key."""

from typing import Final

from agent.jobs.workload_schema import SCHEMA
from qubix_tui.settings.toml import toml_value

_HEADING: Final = """\
# What a hub may have run on this machine. A job names a workload of this file and gives its parameters; it
# never brings a command. Take the # away before what you want to offer.
#
# `qubix-agent workloads check` reads the file over, `qubix-agent workloads list` says what is offered, and
# why something is not. An agent reads it when it starts. docs/workloads.md says more of each key.

# The built-in workload, which measures this machine.
#benchmark = true

# An example. Its command is started as it stands here, without a shell; {lines} is filled by the parameter
# of that name, {{ and }} stand for braces.
#[workload.count]
#description = "Counts to a number, and says how far it is."
#command = ["seq", "--format=%.0f/{lines}", "1", "{lines}"]
#sandbox = "bubblewrap"
#progress = { regex = '^(?P<done>[0-9]+)/(?P<total>[0-9]+)$' }
#
#[workload.count.parameters.lines]
#type = "integer"
#min = 1
#max = 100000
#default = 1000
"""

_TABLES: Final = {
    "workload": ("[workload.NAME]", "One program that may be run."),
    "limits": ("[workload.NAME.limits]", "What it may use. What is not set is not limited."),
    "parameter": (
        "[workload.NAME.parameters.NAME]",
        "What a job may say, or has to, where there is no default.",
    ),
}

_ENVIRONMENT: Final = """
# [workload.NAME.environment]: variables of its environment, which is else empty but for what every job has.
#   HF_HOME = "/srv/models"
"""

_EXAMPLES: Final = {
    "description": "Trains the model.",
    "command": ["/opt/train/bin/python", "-m", "train", "--epochs={epochs}"],
    "image": "docker.io/library/python@sha256:…",
    "read": ["/home/me/models"],
    "no_progress_seconds": 600,
    "memory_mb": 8192,
    "cpu_cores": 4,
    "cpu_seconds": 3600,
    "wall_seconds": 7200,
    "processes": 256,
    "open_files": 4096,
    "type": "integer",
    "default": 3,
    "min": 1,
    "max": 100,
    "pattern": "[a-z0-9-]+",
    "choices": ["small", "large"],
}
"""Values to show, of keys that have no default."""


def template() -> str:
    """Give the file."""
    parts = [_HEADING]
    for kind, (head, about) in _TABLES.items():
        parts.append(f"\n# {head}: {about}\n")
        for key, setting in SCHEMA.settings.items():
            name = key.partition(".")[2]
            if key.startswith(f"{kind}."):
                value = _EXAMPLES.get(name, setting.default)
                parts.append(f"#   {name} = {toml_value(value)}\n#       {setting.description}\n")
    parts.append(_ENVIRONMENT)
    return "".join(parts)
