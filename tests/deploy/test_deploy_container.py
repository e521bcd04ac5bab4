"""The container file, looked at without an engine; its health check, asked about what really runs."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from qubix_tui.cli.main import build_parser
from qubix_tui.protocol.tokens import Role, new_token
from tests.end_to_end.processes import environment, hub_process, started, wait_for

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "container" / "Containerfile"
HEALTHY = ROOT / "deploy" / "container" / "healthy.py"


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Each instruction with what follows it, its lines joined."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.M)
    joined = text.replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in lines]


def said(instructions: list[tuple[str, str]], name: str) -> list[str]:
    """What follows each instruction of a name."""
    return [rest for found, rest in instructions if found == name]


def test_it_is_built_of_what_is_here(instructions: list[tuple[str, str]]) -> None:
    """Every source that is copied exists, and the image below it is named without a registry."""
    copied = [rest.split() for rest in said(instructions, "COPY") if not rest.startswith("--from=")]
    assert copied
    assert all((ROOT / source).exists() for *sources, _ in copied for source in sources)
    assert all(re.fullmatch(r"python:[\w.-]+( AS \w+)?", image) for image in said(instructions, "FROM"))


def test_it_can_use_a_redis(instructions: list[tuple[str, str]]) -> None:
    """The extra that a hub on a Redis needs is in it: nothing can be installed into a read-only root."""
    assert "'/source[redis]'" in said(instructions, "RUN")[0]


def test_it_needs_no_root_and_writes_its_home_alone(instructions: list[tuple[str, str]]) -> None:
    """A user by number, as clusters want it, and one volume, which is QUBIX_HOME."""
    assert all(int(number) > 0 for number in said(instructions, "USER")[-1].split(":"))
    (variables,) = said(instructions, "ENV")
    assert f"QUBIX_HOME={said(instructions, 'VOLUME')[-1]}" in shlex.split(variables)


def test_its_command_is_a_hub_that_may_be_reached(instructions: list[tuple[str, str]]) -> None:
    """`qubix hub`, on all addresses of the container; it is up to its operator to say TLS or --insecure."""
    command = json.loads(said(instructions, "CMD")[-1])
    assert command == ["qubix", "hub"]
    assert build_parser().parse_args(command[1:]).insecure is None
    (variables,) = said(instructions, "ENV")
    assert "QUBIX_HUB_HOST=0.0.0.0" in shlex.split(variables)
    (check,) = said(instructions, "HEALTHCHECK")
    assert "/opt/qubix/healthy.py" in check
    assert "deploy/container/healthy.py /opt/qubix/healthy.py" in said(instructions, "COPY")


def is_healthy(home: Path) -> bool:
    """What the health check says of a home."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    ran = subprocess.run(
        [sys.executable, str(HEALTHY)],
        env=environment(home, PATH=path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode == 0


def test_a_hub_is_healthy_while_it_answers(tmp_path: Path) -> None:
    """Without TLS, and with a certificate that is made out for another name; not once it is gone."""
    assert not is_healthy(tmp_path)
    with hub_process(tmp_path) as (process, _):
        assert is_healthy(tmp_path)
        process.kill()
        process.wait()
        assert not is_healthy(tmp_path)
    issued = trustme.CA().issue_cert("hub.example.org")
    (tmp_path / "tls.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    (tmp_path / "tls.key").write_bytes(issued.private_key_pem.bytes())
    with hub_process(
        tmp_path, "--tls-cert", str(tmp_path / "tls.pem"), "--tls-key", str(tmp_path / "tls.key")
    ):
        assert is_healthy(tmp_path)


def test_an_agent_is_healthy_while_it_runs(tmp_path: Path) -> None:
    """Whether it reaches its hub or not: that is not cured by starting it again."""
    token = tmp_path / "token"
    token.write_text(new_token(Role.PROVIDER))
    token.chmod(0o600)
    with started(
        ["qubix-agent", "--hub", "ws://127.0.0.1:9", "--token-file", str(token)], tmp_path
    ) as process:
        wait_for(lambda: is_healthy(tmp_path), "the agent to answer")
        process.kill()
        process.wait()
        assert not is_healthy(tmp_path)
