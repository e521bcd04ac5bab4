"""What an owner may set for an agent: the tables of ``agent.toml``, each setting with default and reason.

The commented file that `qubix-agent config init` writes, the check of a file, and the list in
``docs/providers.md`` all follow these structs.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from agent.sensors.base import one_line
from agent.sensors.offer import ALL_GPUS, GPU_WORDS, check_gpu
from qubix_tui.client import check_url
from qubix_tui.settings import layers
from qubix_tui.settings.layers import Applied
from qubix_tui.settings.schema import Given, Schema, Text

FILE_NAME: Final = "agent.toml"


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which hub this machine is offered to, and how it is reached.

    `qubix-agent enroll` keeps the hub and a token by itself: then nothing here has to be set.
    """

    url: Annotated[
        Text | None,
        Meta(
            description="Its address. Without it: the hub of the enrollment, else the one on this machine.",
            examples=["wss://hub.example.org:3001"],
        ),
    ] = None
    token_file: Annotated[
        Text | None,
        Meta(
            description="A file with the token to show there, in place of the enrollment's.",
            examples=["/etc/qubix/token"],
        ),
    ] = None
    ca_file: Annotated[
        Text | None,
        Meta(
            description="Certificates (PEM) of a private authority, trusted in place of the system's.",
            examples=["/etc/qubix/ca.pem"],
        ),
    ] = None
    proxy: Annotated[
        Text | None,
        Meta(
            description="An HTTP proxy to go through. None is used unless it is named here.",
            examples=["http://proxy.example.org:3128"],
        ),
    ] = None
    insecure: Annotated[
        bool,
        Meta(description="Allow the token over plain ws:// beyond this machine. In a trusted network only."),
    ] = False


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this machine is listed."""

    name: Annotated[
        Text | None,
        Meta(description="What people call it. Without it: its host name.", examples=["rig-7"]),
    ] = None
    location: Annotated[
        Text | None, Meta(description="Where it stands, in your words.", examples=["Oslo"])
    ] = None
    price_per_hour: Annotated[
        Annotated[float, Meta(ge=0, le=1e9)] | None,
        Meta(description="Price per hour, in the hub's currency.", examples=[0.45]),
    ] = None


class GpuSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which GPUs are offered. The others are neither registered nor sampled into what is sent."""

    offer: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=1023)] | Text, ...],
        Meta(
            description='"all", or numbers and UUIDs as nvidia-smi -L shows them, such as [0, "GPU-…"].',
            extra={"expected": GPU_WORDS},
        ),
    ] = (ALL_GPUS,)


class SamplingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the machine is looked at."""

    interval_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=10,
            description="Between samples. A hub takes a machine for lost that is silent for 15 s.",
        ),
    ] = 1.0


class SensorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked at. What is off is sent as not known."""

    gpu: Annotated[bool, Meta(description="NVIDIA GPUs, through NVML. Off, no GPU is offered.")] = True
    cpu_temperature: Annotated[bool, Meta(description="The temperature of the CPU package.")] = True


class JobSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be run here, and as whom. `qubix-agent workloads list` says what comes of it."""

    workloads_file: Annotated[
        Text | None,
        Meta(
            description="Without it: workloads.toml in QUBIX_HOME, if there.",
            examples=["/etc/qubix/workloads.toml"],
        ),
    ] = None
    user: Annotated[
        Text | None,
        Meta(
            description="Whom jobs run as, where the agent runs as root. Without it: nobody.",
            examples=["qubix-jobs"],
        ),
    ] = None


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``agent.toml``."""

    hub: HubSettings = HubSettings()
    provider: ProviderSettings = ProviderSettings()
    gpus: GpuSettings = GpuSettings()
    sampling: SamplingSettings = SamplingSettings()
    sensors: SensorSettings = SensorSettings()
    jobs: JobSettings = JobSettings()


FLAGS: Final = {
    "hub": "hub.url",
    "token_file": "hub.token_file",
    "ca": "hub.ca_file",
    "proxy": "hub.proxy",
    "insecure": "hub.insecure",
    "name": "provider.name",
    "location": "provider.location",
    "price": "provider.price_per_hour",
    "interval": "sampling.interval_seconds",
}
"""Which setting each flag of `qubix-agent` gives."""

ENVIRONMENT: Final = {
    "QUBIX_HUB": "hub.url",
    "QUBIX_AGENT_CA": "hub.ca_file",
    "QUBIX_AGENT_PROXY": "hub.proxy",
    "QUBIX_AGENT_NAME": "provider.name",
    "QUBIX_AGENT_LOCATION": "provider.location",
    "QUBIX_AGENT_PRICE": "provider.price_per_hour",
    "QUBIX_AGENT_INTERVAL": "sampling.interval_seconds",
}

TOKEN_VARIABLE: Final = "QUBIX_TOKEN"  # noqa: S105 - its name
"""Holds a token itself; goes before a token file that is named in ``agent.toml``."""

_HEADING: Final = """\
# Which hub this machine is offered to, as what, and what of it.
# Every setting is shown with its default, or with an example where there is none; take the # away
# before those to change. `qubix-agent config check` reads the file over, `qubix-agent config show`
# tells what applies. An agent reads it when it starts.
"""


def check_line(text: str) -> None:
    """Check a text of the owner's that goes over the wire.

    Raises:
        ValueError: It is too long, or holds control characters.
    """
    if one_line(text) != text:
        raise ValueError("expected one line of at most 128 characters, without control characters")


def check_proxy(url: str) -> None:
    """Check the address of a proxy.

    Raises:
        ValueError: It is none, or holds a password, which every listing of processes would show.
    """
    expected = "expected http://host:port or https://host:port"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{expected}, without a user and a password")
    rest = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or rest:
        raise ValueError(expected)


AGENT: Final = Schema(
    AgentSettings,
    file_name=FILE_NAME,
    command="qubix-agent config",
    heading=_HEADING,
    flags=FLAGS,
    environment=ENVIRONMENT,
    paths=frozenset({"hub.token_file", "hub.ca_file", "jobs.workloads_file"}),
    checks={
        "hub.url": check_url,
        "hub.proxy": check_proxy,
        "provider.name": check_line,
        "provider.location": check_line,
        "gpus.offer": check_gpu,
    },
)


def apply(
    arguments: argparse.Namespace, directory: Path, environment: Mapping[str, str] = os.environ
) -> Applied[AgentSettings]:
    """Settle every setting of an agent.

    Args:
        arguments: The flags; None, or missing, where not given.
        directory: QUBIX_HOME.
        environment: The variables.

    Raises:
        SettingsError: A value can't be used; the message says where it was given.
    """
    # The token itself is nobody's setting: it is read where it is used, and shown nowhere.
    token = {"hub.token_file": Given(None, TOKEN_VARIABLE)} if environment.get(TOKEN_VARIABLE) else {}
    return layers.apply(AGENT, arguments, directory, environment=environment, variables=token)
