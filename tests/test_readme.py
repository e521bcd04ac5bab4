"""The README's example is a program that runs."""

import asyncio
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.protocol.records import Metrics

README = Path(__file__).parent.parent / "README.md"


def example() -> ModuleType:
    """The README's Python example as a module."""
    found = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    module = ModuleType("readme_example")
    exec(compile(found[1], str(README), "exec"), module.__dict__)
    return module


async def test_the_example_prints_live_metrics() -> None:
    """The ten lines print each update of the provider they watch, the known and the unknown."""
    hub = Hub(HubConfig(port=0))
    await hub.start()
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            task = asyncio.create_task(example().main(hub.url, "rig-7"))
            for metrics, shown in ((Metrics(gpu_percent=80.5, gpu_temp=72), "80.5"), (Metrics(), "None")):
                async with asyncio.timeout(10):
                    while shown not in printed.getvalue():
                        hub.broadcast_gpu_metrics("rig-7", metrics)
                        await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await hub.stop()
    assert re.search(r"^\d{4}-\d\d-\d\dT[\d:.]+Z 80\.5 72\.0$", printed.getvalue(), re.MULTILINE)
    assert re.search(r"^\S+Z None None$", printed.getvalue(), re.MULTILINE)
