"""Made-up machines: repeatable, within the contract, and believable."""

import random
from itertools import pairwise

import pytest

from qubix_tui.protocol.codec import decode_request, encode_request
from qubix_tui.protocol.records import Metrics
from qubix_tui.protocol.requests import PublishMetrics, Register
from qubix_tui.simulation.catalogue import GPU_KINDS, GpuKind, pick_machine
from qubix_tui.simulation.machine import IDLE, POWER_CAP, THERMAL, Gpu, Machine, Pace
from qubix_tui.simulation.workload import Mishap, Mishaps, Phase

AT = "2026-01-31T12:00:00.000Z"


def history(seed: int, index: int, ticks: int, tick_seconds: float = 1.0) -> list[Metrics]:
    """A machine's samples of its first ticks."""
    machine = Machine(seed, index, tick_seconds)
    samples = []
    for _ in range(ticks):
        machine.advance()
        samples.append(machine.metrics(AT))
    return samples


def test_the_same_seed_gives_the_same_fleet_and_history() -> None:
    """Records and samples depend on seed, index and tick alone."""
    for index in range(5):
        assert Machine(7, index, 1.0).spec == Machine(7, index, 1.0).spec
    assert history(7, 3, 400) == history(7, 3, 400)


def test_another_seed_or_index_gives_another_machine() -> None:
    """Neighbours and other fleets differ."""
    assert history(7, 3, 50) != history(8, 3, 50)
    assert history(7, 3, 50) != history(7, 4, 50)


def test_looking_changes_nothing() -> None:
    """Taking a sample twice, or not at all, leaves the history as it is."""
    curious, careless = Machine(1, 2, 1.0), Machine(1, 2, 1.0)
    for _ in range(100):
        curious.advance()
        careless.advance()
        assert curious.metrics(AT) == curious.metrics(AT)
    assert curious.metrics(AT) == careless.metrics(AT)


def test_a_fleet_is_mixed_and_its_names_are_its_own() -> None:
    """Several kinds of GPU, 1 to 8 of them; ids and names all different; every one marked as simulated."""
    specs = [Machine(1, index, 1.0).spec for index in range(300)]
    assert {spec.gpu_model for spec in specs} == {kind.model for kind in GPU_KINDS}
    assert {spec.gpu_count for spec in specs} == {1, 2, 4, 8}
    assert len({spec.worker_id for spec in specs}) == len({spec.name for spec in specs}) == 300
    assert all(spec.simulated for spec in specs)
    assert len({gpu.uuid for spec in specs for gpu in spec.gpus}) == sum(
        spec.gpu_count or 0 for spec in specs
    )
    assert all(0.1 < (spec.price_per_hour or 0) < 40 for spec in specs)


@pytest.mark.parametrize("tick_seconds", [0.1, 1.0, 10.0])
def test_everything_is_within_the_contract(tick_seconds: float) -> None:
    """Registrations and samples pass the hub's own checks, whatever the pace."""
    for index in range(40):
        machine = Machine(11, index, tick_seconds)
        registration = pick_machine(11, index, random.Random(f"11:{index}")).spec
        assert registration == machine.spec
        for _ in range(60):
            machine.advance()
            message = encode_request("GPU_METRICS_UPDATE", PublishMetrics(metrics=machine.metrics(AT)))
            assert decode_request(message).data.metrics == machine.metrics(AT)


def test_a_registration_is_within_the_contract() -> None:
    """The record of each machine is one that a hub accepts."""
    for index in range(100):
        spec = Machine(2, index, 1.0).spec
        fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
        message = encode_request("provider:register", Register(**fields, instance="i"))
        assert decode_request(message).data.worker_id == spec.worker_id


def test_sums_and_means_are_those_of_the_gpus() -> None:
    """The headline says what the GPUs say: mean use, hottest, summed memory; seq grows by one."""
    samples = history(3, 0, 200)
    for sample in samples:
        gpus = [gpu for gpu in sample.gpus if gpu.state == "ok"]
        assert sample.gpu_temp == max(gpu.temp_c or 0 for gpu in gpus)
        assert sample.gpu_percent == pytest.approx(
            sum(gpu.util_percent or 0 for gpu in gpus) / len(gpus), abs=0.6
        )
        assert sample.gpu_mem_used_mb == sum(gpu.mem_used_mb or 0 for gpu in gpus)
        assert all((gpu.mem_used_mb or 0) <= (gpu.mem_total_mb or 0) for gpu in gpus)
    assert [sample.seq for sample in samples] == list(range(1, 201))


def cool(kind: GpuKind) -> Gpu:
    """A GPU of a kind that is well cooled and draws no more than its limit."""
    for seed in range(1000):
        gpu = Gpu(kind, 0, None, random.Random(seed))
        gpu.settle(100.0, 0.5)
        if gpu.power_w < kind.power_limit_w and gpu.temp_c < kind.slowdown_c - 10:
            gpu.settle(0.0, 0.0)
            return gpu
    raise AssertionError("every seed gives a hot or greedy one")


def test_temperature_follows_power_with_a_lag() -> None:
    """Under load power is there within seconds, heat within a minute or two; both fall again afterwards."""
    gpu, pace = cool(GPU_KINDS[1]), Pace(1.0)
    start = gpu.temp_c
    temperatures = []
    for _ in range(200):
        gpu.advance(98.0, 0.9, pace)
        temperatures.append(gpu.temp_c)
    settled = temperatures[-1]
    assert gpu.power_w > 0.7 * GPU_KINDS[1].power_limit_w
    assert temperatures[4] < start + 0.3 * (settled - start), "five seconds are too short to heat it up"
    assert temperatures[90] > start + 0.9 * (settled - start)
    assert all(later >= earlier - 0.01 for earlier, later in pairwise(temperatures))
    for _ in range(200):
        gpu.advance(0.0, 0.0, pace)
    assert gpu.temp_c == pytest.approx(start, abs=1)
    assert gpu.throttle == [IDLE]


def test_memory_fills_and_stays() -> None:
    """It fills over some seconds, stays on its plateau, and is free at once when the work is gone."""
    gpu, pace = cool(GPU_KINDS[1]), Pace(1.0)
    shares = []
    for _ in range(60):
        gpu.advance(98.0, 0.8, pace)
        shares.append(gpu.mem_share)
    assert shares[1] < 0.3
    assert shares[20:] == [pytest.approx(0.8)] * 40
    gpu.advance(0.0, 0.0, pace)
    assert gpu.mem_share == 0


def throttled(word: str) -> Gpu:
    """A GPU that is held back in a certain way after ten minutes of full load."""
    for seed in range(2000):
        gpu, pace = Gpu(GPU_KINDS[1], 0, None, random.Random(seed)), Pace(1.0)
        for _ in range(120):
            gpu.advance(100.0, 0.5, pace)
        if gpu.throttle == [word]:
            return gpu
    raise AssertionError(f"no GPU is held back by {word}")


def test_a_greedy_gpu_is_held_at_its_power_limit() -> None:
    """Work that would draw more than the limit is capped at it, named, and clocked lower."""
    gpu = throttled(POWER_CAP)
    metrics = gpu.metrics()
    assert metrics.power_w == pytest.approx(GPU_KINDS[1].power_limit_w, abs=0.5)
    assert metrics.sm_clock_mhz is not None
    assert metrics.sm_clock_mhz < GPU_KINDS[1].boost_mhz


def test_a_hot_gpu_slows_down_at_its_threshold() -> None:
    """A badly cooled one comes to its slowdown temperature, draws less there, and does not run away."""
    gpu, pace = throttled(THERMAL), Pace(1.0)
    kind = GPU_KINDS[1]
    for _ in range(600):
        gpu.advance(100.0, 0.5, pace)
        assert kind.slowdown_c - 15 < gpu.temp_c < kind.slowdown_c + 3
    assert gpu.power_w < kind.power_limit_w


def test_phases_end_and_others_follow() -> None:
    """Over an hour a machine does several kinds of things, on some or all of its GPUs."""
    rng = random.Random(5)
    phases = [Phase(rng, 0.0, 8) for _ in range(200)]
    assert {phase.kind.name for phase in phases} == {"idle", "training", "inference", "render"}
    assert {phase.active for phase in phases} == set(range(1, 9))
    training = next(phase for phase in phases if phase.kind.name == "training")
    loads = [training.load(float(second)) for second in range(200)]
    assert min(loads) < 20 < 90 < max(loads), "checkpoints dip"


def test_mishaps_come_and_go() -> None:
    """Each kind happens in a fleet, one at a time, and ends by itself."""
    seen: set[Mishap] = set()
    for seed in range(60):
        mishaps = Mishaps(random.Random(seed))
        calm = 0
        for second in range(0, 20_000, 5):
            mishaps.advance(float(second))
            if mishaps.current is None:
                calm += 1
            else:
                seen.add(mishaps.current)
        assert calm > 3_000
    assert seen == set(Mishap)


def test_a_lost_gpu_is_shown_by_name_and_nothing_else() -> None:
    """It keeps its identity and counts in no mean; where it was the only one, values are unknown, not 0."""
    shown = []
    for index in range(60):
        machine = Machine(4, index, 1.0)
        machine._mishaps.current = Mishap.GPU_LOST
        sample = machine.metrics(AT)
        lost = [gpu for gpu in sample.gpus if gpu.state == "lost"]
        assert len(lost) == 1
        assert lost[0].uuid in {gpu.uuid for gpu in machine.spec.gpus}
        assert lost[0].util_percent is None
        values = (sample.gpu_percent, sample.gpu_temp, sample.gpu_mem_used_mb)
        assert [value is None for value in values] == [len(sample.gpus) == 1] * 3
        shown.append(len(sample.gpus))
    assert 1 in shown
    assert max(shown) > 1
