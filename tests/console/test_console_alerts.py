"""Alert rules: when they speak, once, and when that is over."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.console.alert_rules import COOLER_CELSIUS, rules_of
from qubix_tui.console.alerts import (
    GAP_SECONDS,
    KEPT_ALERTS,
    Alert,
    Alerts,
    JobRule,
)
from qubix_tui.console.fleet import Row
from qubix_tui.console.settings import AlertRule, AlertSettings
from qubix_tui.protocol.job_records import Job, JobState
from qubix_tui.protocol.records import ProviderState
from qubix_tui.protocol.types import to_timestamp
from tests.console.records import NOW, headline, provider

DEFAULTS = AlertSettings()
HOT_CELSIUS, HOT_SECONDS = DEFAULTS.hot_c, DEFAULTS.hot_seconds
COOL_CELSIUS = HOT_CELSIUS - COOLER_CELSIUS


class Stage:
    """The default rules, one provider, and time in the test's hands."""

    def __init__(self, settings: AlertSettings = DEFAULTS, **own: AlertRule) -> None:
        self.alerts = Alerts(rules_of(settings, own))
        self.row = Row(provider())
        self.now = NOW

    def sample(self, after: float = 1.0, **values: Any) -> list[Alert]:
        """Let a sample come so much later."""
        self.now += after
        self.row.measure(headline(at=self.now, **values))
        return self.alerts.look(self.row, self.now)

    def state(self, state: ProviderState, after: float = 1.0, **more: Any) -> list[Alert]:
        """Let the state change so much later."""
        self.now += after
        self.row.record = provider(state=state, **more)
        return self.alerts.look(self.row, self.now)


def job(state: JobState, name: str = "train-7f", **more: Any) -> Job:
    """A job in a state."""
    return Job(id=name, workload="train", state=state, created_at=to_timestamp(NOW), **more)


def test_a_hot_gpu_speaks_after_its_time_and_once() -> None:
    """85° for 30 s: nothing before, one alert then, with the GPU and the temperature."""
    stage = Stage()
    found = [alert for _ in range(60) for alert in stage.sample(gpu_temp=86.0, hottest_gpu=3)]
    (alert,) = found
    assert alert.moment == NOW + 1 + HOT_SECONDS
    assert alert.text == "rig-1: GPU 3 86°, 85° or more for 30s"
    assert (alert.rule, alert.style, alert.provider_id) == ("GPU hot", "hot", "rig-1-3f9a1c")
    assert stage.alerts.open == 1


def test_the_limits_are_settings() -> None:
    """From which heat on and for how long; which of the rules are wanted; and the bell."""
    stage = Stage(AlertSettings(hot_c=70, hot_seconds=0, off=("gpu-lost",), bell=True))
    (alert,) = stage.sample(gpu_temp=70.0, gpus_lost=1)
    assert (alert.rule, alert.text, alert.rings) == ("GPU hot", "rig-1: GPU 70°, 70° or more", True)
    assert [rule.name for rule in stage.alerts.rules] == ["GPU hot", "provider lost", "job failed"]


def test_rules_of_ones_own_are_queries() -> None:
    """Such as the fleet's filter: when it begins, for how long, and when it is over."""
    rule = AlertRule(when="use<5 cpu>50", until="use>20", seconds=10, bell=True)
    stage = Stage(AlertSettings(off=("hot", "lost", "gpu-lost", "job-failed")), idle=rule)
    found = [alert for _ in range(20) for alert in stage.sample(gpu_percent=1.0, cpu_percent=90.0)]
    (alert,) = found
    assert (alert.rule, alert.text, alert.rings) == ("idle", "rig-1: use<5 cpu>50 for 10s", True)
    stage.sample(gpu_percent=10.0, cpu_percent=90.0)
    assert stage.alerts.open == 1
    stage.sample(gpu_percent=30.0, cpu_percent=90.0)
    assert stage.alerts.open == 0


def test_a_short_peak_is_no_alert() -> None:
    """A sample below the limit begins the time anew."""
    stage = Stage()
    for _ in range(5):
        for _ in range(int(HOT_SECONDS) - 1):
            assert stage.sample(gpu_temp=90.0) == []
        assert stage.sample(gpu_temp=80.0) == []


def test_a_value_that_wavers_is_told_once() -> None:
    """Between the two limits it is neither new nor over; below the lower one it is over, with the moment."""
    stage = Stage()
    found = []
    for step in range(200):
        found += stage.sample(gpu_temp=86.0 if step < 40 or step % 2 else 83.0)
    (alert,) = found
    assert stage.alerts.open == 1
    stage.sample(gpu_temp=COOL_CELSIUS - 1)
    assert alert.ended == stage.now
    assert stage.alerts.open == 0


def test_time_that_nobody_saw_is_not_counted() -> None:
    """Two hot samples with a silence between them say nothing of the silence."""
    stage = Stage()
    assert stage.sample(gpu_temp=90.0) == []
    assert stage.sample(after=GAP_SECONDS + 60, gpu_temp=90.0) == []
    assert stage.sample(after=1, gpu_temp=90.0) == []


def test_a_state_alone_makes_nothing_hot() -> None:
    """The last sample of a provider that is gone is no news of its heat."""
    stage = Stage()
    stage.sample(gpu_temp=90.0)
    for state in (ProviderState.UNREACHABLE, ProviderState.OFFLINE):
        assert stage.state(state, after=40) == []


def test_lost_while_busy_speaks_at_once_and_ends_when_it_is_back() -> None:
    """With its state, the reason and the job; a provider that goes without one is no alert."""
    stage = Stage()
    stage.row.reason = "no word for 15 s"
    assert stage.state(ProviderState.UNREACHABLE) == []
    (alert,) = stage.state(ProviderState.UNREACHABLE, current_job_id="train-7f")
    assert alert.text == "rig-1: unreachable (no word for 15 s) while it has train-7f"
    assert stage.state(ProviderState.OFFLINE, current_job_id="train-7f") == []
    assert stage.state(ProviderState.BUSY, current_job_id="train-7f") == []
    assert alert.ended == stage.now


def test_a_lost_gpu_stays_one_while_its_machine_is_away() -> None:
    """It is over when the machine says that all are back, not when the machine is gone."""
    stage = Stage()
    (alert,) = stage.sample(gpus_lost=1)
    assert alert.text == "rig-1: 1 of 4 GPUs lost: the driver no longer answers for them"
    stage.state(ProviderState.OFFLINE)
    assert stage.alerts.open == 1
    stage.state(ProviderState.AVAILABLE)
    assert stage.sample(gpus_lost=1) == []
    stage.sample(gpus_lost=0)
    assert alert.ended == stage.now


def test_a_failed_job_is_told_once() -> None:
    """With its workload and the reason, whatever is said of it again; other ends are no alert."""
    alerts = Alerts(rules_of(DEFAULTS, {}))
    assert alerts.look_at_job(job(JobState.RUNNING), NOW) == []
    assert alerts.look_at_job(job(JobState.COMPLETED, "other"), NOW) == []
    (alert,) = alerts.look_at_job(job(JobState.FAILED, reason="exit code 1\x1b[2J"), NOW)
    assert alert.text == "job train-7f (train) failed: exit code 1�[2J"
    assert alerts.look_at_job(job(JobState.FAILED), NOW + 1) == []


def test_a_provider_that_is_removed_ends_its_alerts() -> None:
    """Nothing of it holds any longer."""
    stage = Stage()
    (alert,) = stage.sample(gpus_lost=1)
    stage.alerts.forget(stage.row.record.id, stage.now + 1)
    assert alert.ended == stage.now + 1
    assert stage.alerts.open == 0


def test_the_newest_are_kept() -> None:
    """As many as are listed; all are counted."""
    alerts = Alerts([JobRule(name="any", states=frozenset({JobState.FAILED}))])
    for number in range(KEPT_ALERTS + 50):
        alerts.look_at_job(job(JobState.FAILED, f"j{number}"), NOW)
    assert (len(alerts.kept), alerts.count) == (KEPT_ALERTS, KEPT_ALERTS + 50)
    assert alerts.kept[-1].job_id == f"j{KEPT_ALERTS + 49}"


@given(
    st.lists(
        st.tuples(st.floats(0.1, 40), st.none() | st.floats(20, 100), st.booleans()),
        max_size=80,
    )
)
def test_hysteresis_holds_for_any_course(course: list[tuple[float, float | None, bool]]) -> None:
    """An alert comes only after hot samples without a gap for its time; between two there was a cool one."""
    stage = Stage()
    hot_since: float | None = None
    last: float | None = None
    is_open = False
    for after, temperature, is_online in course:
        stage.now += after
        state = ProviderState.AVAILABLE if is_online else ProviderState.OFFLINE
        stage.row.record = provider(state=state)
        found = stage.sample(after=0, gpu_temp=temperature)
        is_hot = is_online and temperature is not None and temperature >= HOT_CELSIUS
        if not is_hot:
            hot_since = None
        elif hot_since is None or (last is not None and stage.now - last > GAP_SECONDS):
            hot_since = stage.now
        last = stage.now
        if found:
            assert not is_open
            assert hot_since is not None
            assert stage.now - hot_since >= HOT_SECONDS
            is_open = True
        elif is_open:
            is_open = not (is_online and temperature is not None and temperature < COOL_CELSIUS)
        assert stage.alerts.open == is_open
