"""What the agent costs the machine it runs on, beside what people would run instead.

``python -m benchmarks.agent_cost`` runs all that it finds side by side on the same machine for two minutes,
each asked for, or telling, everything once a second, and prints a table. Peers: Glances in server mode, as it
comes and cut down to the plugins that tell what the agent tells; prometheus-node-exporter; btop; with an
NVIDIA GPU also gpustat and nvitop. The Python ones are installed into a temporary virtual environment, the
others come from the system's packages (``apt install prometheus-node-exporter btop``). What is missing is
named.

Processor time, memory and wake-ups are those of all processes of a contestant; the hub that the agent sends
to is none of them.
"""

import argparse
import contextlib
import fcntl
import os
import pty
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.processes import cpu_seconds

SECONDS = 120.0
SETTLE_SECONDS = 10.0
"""What is done once, at the start, is not what is asked about."""

MIB = 2**20

PYTHON_PEERS = ("glances", "gpustat", "nvitop")

HOST_PLUGINS = "cpu,percpu,load,mem,memswap,network,diskio,fs,sensors,uptime,system,core"


class Contestant(NamedTuple):
    """Something that watches a machine, running.

    ``ask`` makes it tell everything once, where it does not by itself.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    ask: Callable[[], object] | None = None


class Spent(NamedTuple):
    """What all processes of a contestant have had so far, and hold."""

    cpu_seconds: float
    wakeups: int
    resident: int
    unique: int


def spent(root: int) -> Spent:
    """Look at a process and those that it started."""
    total = Spent(0.0, 0, 0, 0)
    process = psutil.Process(root)
    for pid in (root, *(child.pid for child in process.children(recursive=True))):
        with contextlib.suppress(OSError):
            proc = Path(f"/proc/{pid}")
            memory = _members(proc / "smaps_rollup")
            total = Spent(
                total.cpu_seconds + cpu_seconds(pid),
                total.wakeups
                + sum(
                    _members(task / "status")["voluntary_ctxt_switches"] for task in (proc / "task").iterdir()
                ),
                total.resident + memory["Rss"] * 1024,
                total.unique + (memory["Private_Clean"] + memory["Private_Dirty"]) * 1024,
            )
    return total


def _members(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0])
    return found


class Stage(contextlib.ExitStack):
    """Where contestants run.

    Args:
        folder: For their files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.contestants: list[Contestant] = []
        self.missing: list[str] = []
        self.environment = {**os.environ, "QUBIX_HOME": str(folder / "home"), "XDG_CONFIG_HOME": str(folder)}

    def start(self, *command: str, output: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        """Start a program that is ended with the stage."""
        process = subprocess.Popen(
            command,
            stdin=output if output >= 0 else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            start_new_session=True,
        )
        self.callback(process.wait)
        self.callback(process.kill)
        return process

    def start_in_terminal(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a program on a terminal of 50 rows and 160 columns, which takes whatever it draws."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, 160, 0, 0))
        self.environment["TERM"] = "xterm-256color"
        process = self.start(*command, output=theirs)
        os.close(theirs)
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        return process


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 65536):
            pass


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        return port


def add_agent(stage: Stage) -> None:
    """The agent, sending to a hub."""
    scripts = Path(sys.executable).parent
    hub = stage.start(str(scripts / "qubix"), "hub", "--port", "0", output=subprocess.PIPE)
    assert hub.stdout is not None
    url = hub.stdout.readline().decode().split()[-1]
    process = stage.start(str(scripts / "qubix-agent"), "--hub", url, output=subprocess.PIPE)
    assert process.stdout is not None
    if not process.stdout.readline().startswith(b"registered"):
        raise RuntimeError("the agent did not register")
    stage.contestants.append(Contestant("qubix-agent", process))


def python_peers(folder: Path, names: Sequence[str]) -> Path:
    """Install Python peers, and give where their programs are."""
    directory = folder / "peers"
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    quiet = ["--quiet", "--disable-pip-version-check"]
    for name in names:
        subprocess.run(
            [str(directory / "bin" / "pip"), "install", *quiet, name], check=False, stderr=subprocess.DEVNULL
        )
    return directory / "bin"


def add_glances(stage: Stage, programs: Path) -> None:
    """Glances as a server, asked for everything; once as it comes, once without what the agent has not.

    Left alone it reads the machine every other second only, and answers from its cache in between.
    """
    program = programs / "glances"
    if not program.exists():
        stage.missing.append("glances (pip install glances)")
        return
    cut_down = ("--disable-plugin", "all", "--enable-plugin", HOST_PLUGINS)
    for name, options in (("Glances, server mode", ()), ("Glances, cut down", cut_down)):
        port = free_port()
        where = ("-s", "-B", "127.0.0.1", "-p", str(port), "--disable-autodiscover")
        process = stage.start(str(program), *where, "--time", "1", "--cached-time", "0", *options)
        server = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}")
        wait_for(server.getAll)
        stage.contestants.append(Contestant(name, process, ask=server.getAll))


def add_node_exporter(stage: Stage) -> None:
    """prometheus-node-exporter, scraped."""
    program = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if program is None:
        stage.missing.append("prometheus-node-exporter (apt install prometheus-node-exporter)")
        return
    port = free_port()
    process = stage.start(program, f"--web.listen-address=127.0.0.1:{port}")

    def scrape() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text: bytes = answer.read()
            return text

    wait_for(scrape)
    stage.contestants.append(Contestant("prometheus-node-exporter", process, ask=scrape))


def add_btop(stage: Stage) -> None:
    """The monitor btop on a terminal, at one picture a second."""
    program = shutil.which("btop")
    if program is None:
        stage.missing.append("btop (apt install btop)")
        return
    settings = stage.folder / "btop" / "btop.conf"
    settings.parent.mkdir()
    settings.write_text("update_ms = 1000\n")
    process = stage.start_in_terminal(program, "--utf-force")
    stage.contestants.append(Contestant("btop", process))


def add_gpu_tools(stage: Stage, programs: Path) -> None:
    """What shows NVIDIA GPUs in a terminal, once a second."""
    for name, options in (("gpustat", ("--interval", "1")), ("nvitop", ("--interval", "1", "--monitor"))):
        if (programs / name).exists():
            process = stage.start_in_terminal(str(programs / name), *options)
            stage.contestants.append(Contestant(name, process))
        else:
            stage.missing.append(f"{name} (pip install {name})")


def wait_for(ask: Callable[[], object]) -> None:
    """Ask a server until it answers.

    Raises:
        RuntimeError: It does not within half a minute.
    """
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        with contextlib.suppress(OSError):
            ask()
            return
        time.sleep(0.05)
    raise RuntimeError("a peer did not begin to answer")


@contextlib.contextmanager
def asked_each_second(contestants: Sequence[Contestant]) -> Iterator[None]:
    """Ask those that tell nothing by themselves, each once a second, for as long as the block runs."""
    over = threading.Event()

    def keep_asking(ask: Callable[[], object]) -> None:
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            ask()
            due += 1.0

    threads = [
        threading.Thread(target=keep_asking, args=(one.ask,)) for one in contestants if one.ask is not None
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def measure(contestants: Sequence[Contestant], seconds: float) -> list[Spent]:
    """Give what each spent within some seconds, and held at their end."""
    with asked_each_second(contestants):
        time.sleep(SETTLE_SECONDS)
        before = [spent(one.process.pid) for one in contestants]
        time.sleep(seconds)
        after = [spent(one.process.pid) for one in contestants]
    for one in contestants:
        if one.process.poll() is not None:
            raise RuntimeError(f"{one.name} ended by itself")
    return [
        Spent(now.cpu_seconds - then.cpu_seconds, now.wakeups - then.wakeups, now.resident, now.unique)
        for then, now in zip(before, after, strict=True)
    ]


def table(contestants: Sequence[Contestant], costs: Sequence[Spent], seconds: float) -> Iterator[str]:
    """Write the table, in lines."""
    yield "| | CPU s per 1,000 samples | of one core | RSS, MiB | USS, MiB | wake-ups a second | CPU, × |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for one, cost in zip(contestants, costs, strict=True):
        per_second = cost.cpu_seconds / seconds
        yield (
            f"| {one.name} | {1000 * per_second:.2f} | {100 * per_second:.2f} % | "
            f"{cost.resident / MIB:.1f} | {cost.unique / MIB:.1f} | "
            f"{cost.wakeups / seconds:.1f} | {cost.cpu_seconds / costs[0].cpu_seconds:.1f} |"
        )


def main() -> None:
    """Run everything that is there, and print what it cost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent_cost", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to measure (default: 120)")
    seconds = parser.parse_args().seconds
    has_gpu = shutil.which("nvidia-smi") is not None
    with tempfile.TemporaryDirectory(prefix="qubix-bench-") as name, Stage(Path(name)) as stage:
        programs = python_peers(stage.folder, PYTHON_PEERS if has_gpu else PYTHON_PEERS[:1])
        add_agent(stage)
        add_glances(stage, programs)
        if has_gpu:
            add_gpu_tools(stage, programs)
        add_node_exporter(stage)
        add_btop(stage)
        costs = measure(stage.contestants, seconds)
        print("\n".join(table(stage.contestants, costs, seconds)))
    for missing in stage.missing:
        print(f"not measured, for it is not here: {missing}")


if __name__ == "__main__":
    main()
