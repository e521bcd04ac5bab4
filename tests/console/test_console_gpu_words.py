"""A GPU in words: what is said when, and that nothing is made up."""

from typing import Any

import pytest

from qubix_tui.console import gpu_words
from qubix_tui.console.gpu_words import Condition
from qubix_tui.protocol.records import GpuAges, GpuInfo, GpuMetrics, GpuProcess
from tests.console.provider_stage import gpu


def values(one: GpuMetrics) -> dict[str, str]:
    """Give the facts' values by label."""
    return {fact.label: fact.value for fact in gpu_words.facts(one) if fact.label}


def test_everything_a_gpu_says() -> None:
    """Each value has its unit, in the order of its worth."""
    full = gpu(
        pcie_rx_bytes_per_sec=1.2e6,
        pcie_tx_bytes_per_sec=0,
        pcie_link_gen=4,
        pcie_link_width=16,
        ecc_corrected=0,
        mem_temp_c=78,
    )
    assert values(full) == {
        "use": "97%",
        "memory": "22.1/24G",
        "temp": "64°",
        "power": "438/450W",
        "clocks": "2520/10501MHz",
        "fan": "78%",
        "link": "4.0×16",
        "health": "ok",
        "energy": "3.33kWh",
        "mem temp": "78°",
        "PCIe": "↓1.2M/s ↑0B/s",
        "runs": "python3 19.5G",
    }


def test_a_gpu_that_says_nothing() -> None:
    """Every value that is not known is a dash, never 0."""
    assert set(values(GpuMetrics(index=0)).values()) == {"—"}


def test_half_known_pairs() -> None:
    """Of two values of which one is known, that one is told."""
    half = values(GpuMetrics(index=0, sm_clock_mhz=2520, mem_total_mb=24564, pcie_tx_bytes_per_sec=5))
    assert half["clocks"] == "2520/—MHz"
    assert half["memory"] == "—/24G"
    assert half["PCIe"] == "↓— ↑5B/s"
    assert values(gpu(pcie_rx_bytes_per_sec=0, pcie_tx_bytes_per_sec=0))["PCIe"] == "↓0B/s ↑0B/s"


def facts(**more: Any) -> dict[str, tuple[str, str, str]]:
    """Give value, style and note of the facts of a GPU, by label."""
    return {
        fact.label: (fact.value, fact.style, fact.note) for fact in gpu_words.facts(gpu(**more)) if fact.label
    }


def test_a_link_below_what_it_could_be() -> None:
    """Fewer lanes are worth a colour; a lower generation is what idle GPUs do, and is told quietly."""
    most = {"pcie_link_gen_max": 4, "pcie_link_width_max": 16}
    assert facts(pcie_link_gen=4, pcie_link_width=16, **most)["link"] == ("4.0×16", "value", "")
    assert facts(pcie_link_gen=1, pcie_link_width=16, **most)["link"] == ("1.0×16", "value", "of 4.0×16")
    assert facts(pcie_link_gen=4, pcie_link_width=8, **most)["link"] == ("4.0×8", "warn", "of 4.0×16")


@pytest.mark.parametrize(
    ("more", "value", "style", "says"),
    [
        ({"ecc_uncorrected": 0}, "ok", "value", None),
        ({"ecc_uncorrected": 3}, "ECC", "hot", "3 uncorrected memory errors"),
        ({"xid": 79}, "Xid 79", "hot", "driver error Xid 79"),
        ({"row_remap_pending": True}, "reset due", "warn", "a row of memory is replaced at the next reset"),
        (
            {"row_remap_failure": True, "row_remap_pending": True},
            "memory broken, reset due",
            "hot",
            "a row of memory could not be replaced: exchange it",
        ),
    ],
)
def test_health(more: dict[str, Any], value: str, style: str, says: str | None) -> None:
    """What the GPU reports of its memory and driver, the worst first; also in its condition."""
    assert facts(**more)["health"][:2] == (value, style)
    condition = gpu_words.condition(gpu(**more), {})
    assert (condition is None) if says is None else says in (condition or Condition("", "", "")).sentence


def test_health_tells_what_was_mended() -> None:
    """Corrected errors and replaced rows are no illness, and are told beside it."""
    told = facts(ecc_corrected=12, row_remaps_correctable=1, row_remaps_uncorrectable=1)["health"]
    assert told == ("ok", "value", "12 corrected, 2 rows replaced")
    assert facts()["health"] == ("—", "value", "")


def test_a_late_gpu_tells_how_late() -> None:
    """The age of values that the driver did not renew."""
    late = gpu_words.condition(gpu(state="stale", ages=GpuAges(sample=7)), {})
    assert late == Condition(
        "late 7s", "stale: the driver is late with its answer, these are from 7s ago", "warn"
    )


def test_processes_largest_first() -> None:
    """Processes are told by memory; one without a name by its number; an idle GPU says so."""
    processes = [
        GpuProcess(pid=1, name="small", mem_used_mb=1024),
        GpuProcess(pid=2),
        GpuProcess(pid=3, name="large\x1b[31m", mem_used_mb=4096),
    ]
    told = [fact.value for fact in gpu_words.facts(gpu(processes=processes))[-3:]]
    assert told == ["large�[31m 4.0G", "small 1.0G", "pid 2"]
    assert values(gpu(processes=[]))["runs"] == "no process"


@pytest.mark.parametrize(
    ("temperature", "slowdown", "style"),
    [
        (69.9, None, "value"),
        (70, None, "warn"),
        (82.9, None, "warn"),
        (83, None, "hot"),
        (76.9, 90, "value"),
        (77, 90, "warn"),
        (87, 90, "hot"),
        (None, 90, "value"),
    ],
)
def test_bands_of_temperature(temperature: float | None, slowdown: float | None, style: str) -> None:
    """Warm from 13 below the GPU's own threshold and hot from 3 below; else from 70 and 83."""
    assert gpu_words.temperature_style(temperature, slowdown) == style


def test_power_is_loud_only_where_it_holds_back() -> None:
    """Full power is what people pay for; a cap that slows is worth a colour."""
    assert gpu_words.power_style(gpu()) == "value"
    assert gpu_words.power_style(gpu(throttle=["power cap"])) == "warn"
    assert gpu_words.power_style(gpu(throttle=["thermal"])) == "value"


@pytest.mark.parametrize(
    ("state", "short", "style"),
    [("lost", "lost", "hot"), ("asleep", "asleep", "label"), ("stale", "stale", "warn")],
)
def test_a_gpu_that_is_not_there_to_ask(state: str, short: str, style: str) -> None:
    """Lost, asleep and stale are told in words, whatever else is known."""
    found = gpu_words.condition(gpu(state=state, throttle=["power cap"]), {})
    assert found is not None
    assert (found.short, found.style) == (short, style)
    assert found.sentence.startswith(f"{short}: ")


def test_nothing_is_said_of_a_healthy_gpu() -> None:
    """No reason, idle, and not able to tell are nothing out of the ordinary."""
    for throttle in ([], ["idle"], None):
        assert gpu_words.condition(gpu(throttle=throttle), {"idle": 1.0}) is None


def test_why_it_is_slow() -> None:
    """The reasons of now, each with its share of the last minute."""
    found = gpu_words.condition(gpu(throttle=["power_cap", "idle"]), {"power_cap": 0.336, "idle": 0.5})
    assert found == Condition("power cap", "slow: held back by power cap, 34% of the last minute", "warn")
    both = gpu_words.condition(gpu(throttle=["power cap", "thermal"]), {"power cap": 0.001})
    assert both is not None
    assert both.sentence == "slow: held back by power cap, 1% of the last minute; thermal"


def test_why_it_was_slow() -> None:
    """A reason that is over is told for a minute, without alarm and not in short."""
    found = gpu_words.condition(gpu(), {"thermal": 0.1})
    assert found == Condition("", "was held back by thermal, 10% of the last minute", "label")


def test_errors_come_first() -> None:
    """Driver and memory errors are told before slowness, and as loud as they are."""
    found = gpu_words.condition(gpu(xid=79, ecc_uncorrected=2, throttle=["thermal"]), {})
    assert found == Condition(
        "Xid 79, ECC, thermal",
        "driver error Xid 79, 2 uncorrected memory errors, slow: held back by thermal",
        "hot",
    )
    assert gpu_words.condition(gpu(xid=0, ecc_uncorrected=0), {}) is None


def test_a_models_short_name() -> None:
    """The maker's name is left out; the newest sample's name wins over the record's; unknown is nothing."""
    assert gpu_words.model_name(gpu(), None) == "RTX 4090"
    assert gpu_words.model_name(gpu(name=None), GpuInfo(name="NVIDIA H200")) == "H200"
    assert gpu_words.model_name(None, None) == ""


def test_energy_keeps_three_digits() -> None:
    """Small amounts have decimals, large ones none."""
    assert [gpu_words.energy(joules) for joules in (None, 0, 3.6e6, 3.6e8)] == [
        "—",
        "0.00kWh",
        "1.00kWh",
        "100kWh",
    ]
