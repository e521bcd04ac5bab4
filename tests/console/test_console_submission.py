"""A job as it is typed: what is wrong is said, and who could take it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubix_tui.console.submission import (
    Draft,
    DraftError,
    Preview,
    hint,
    offered,
    preview,
    preview_words,
    value_of,
)
from qubix_tui.protocol.job_records import Requirements
from qubix_tui.protocol.records import GpuInfo, ProviderState, Workload, WorkloadParam
from qubix_tui.protocol.requests import SubmitJob
from tests.console.records import provider

TRAIN = Workload(
    name="train",
    params=[
        WorkloadParam(name="epochs", type="integer", default=3, min=1, max=100),
        WorkloadParam(name="rate", type="number", default=0.1, min=0),
        WorkloadParam(name="model", type="string", choices=["small", "large"]),
        WorkloadParam(name="resume", type="boolean", default=False),
    ],
)


def draft(**more: Any) -> Draft:
    """A form with the least that is needed."""
    known: dict[str, Any] = {"workload": TRAIN, "params": {"model": "small"}}
    return Draft(**{**known, **more})


def test_a_whole_form() -> None:
    """Each field becomes what the wire wants: units, types, and nothing for what is empty."""
    full = draft(
        params={"model": "large", "epochs": " 5 ", "rate": "0.5", "resume": "yes"},
        gpu=" 4090 ",
        memory="24",
        price="0.5",
        provider="rig-7",
        simulated=True,
        timeout="3600",
        retries="2",
    )
    assert full.job() == SubmitJob(
        workload="train",
        params={"epochs": 5, "rate": 0.5, "model": "large", "resume": True},
        requires=Requirements(
            gpu_model="4090",
            min_gpu_mem_mb=24 * 1024,
            max_price_per_hour=0.5,
            provider_id="rig-7",
            simulated=True,
        ),
        timeout_seconds=3600,
        retries=2,
    )
    assert draft().job() == SubmitJob(workload="train", params={"model": "small"})


@pytest.mark.parametrize(
    ("more", "field", "says"),
    [
        ({"workload": None}, "workload", "workload: choose one"),
        ({"params": {}}, "param-model", "the parameter model is missing"),
        ({"params": {"model": "tiny"}}, "param-model", "expected one of “small”, “large”"),
        ({"params": {"model": "small", "epochs": "many"}}, "param-epochs", "epochs: expected a whole number"),
        ({"params": {"model": "small", "epochs": "0"}}, "param-epochs", "expected at least 1"),
        ({"params": {"model": "small", "rate": "fast"}}, "param-rate", "rate: expected a number"),
        ({"params": {"model": "small", "resume": "maybe"}}, "param-resume", "resume: expected true or false"),
        ({"memory": "much"}, "memory", "memory: expected GiB"),
        ({"memory": "-1"}, "memory", "memory: expected GiB"),
        ({"price": "nan"}, "price", "price: expected a price per hour"),
        ({"provider": "rig 7"}, "provider", "provider: expected an id"),
        ({"timeout": "inf"}, "timeout", "timeout: expected seconds"),
        ({"retries": "1.5"}, "retries", "retries: expected a whole number"),
        ({"retries": "1000"}, "retries", "retries: expected a whole number"),
    ],
)
def test_what_is_wrong_is_said(more: dict[str, Any], field: str, says: str) -> None:
    """In which field, and what would be right."""
    with pytest.raises(DraftError) as caught:
        draft(**more).job()
    assert caught.value.field == field
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("param", "words"),
    [
        (TRAIN.params[0], "a whole number, from 1, up to 100, else 3"),
        (TRAIN.params[1], "a number, from 0, else 0.1"),
        (TRAIN.params[2], "small or large, needed"),
        (TRAIN.params[3], "true or false, else false"),
    ],
)
def test_hints(param: WorkloadParam, words: str) -> None:
    """What a parameter takes, and what it is if nothing is given."""
    assert hint(param) == words


def test_who_could_take_it() -> None:
    """Every wish leaves out who does not meet it; what is not known meets none."""
    workloads = [TRAIN]
    fleet = [
        provider("cheap", workloads=workloads, price_per_hour=0.2),
        provider("dear", workloads=workloads, price_per_hour=2.0, gpu_model="NVIDIA H200"),
        provider("busy", ProviderState.BUSY, workloads=workloads),
        provider("other"),
        provider("free", workloads=workloads, price_per_hour=None),
        provider("made-up", workloads=workloads, simulated=True),
    ]

    def seen(**wanted: Any) -> Preview:
        return preview(Requirements(**wanted), "train", fleet)

    assert seen() == Preview(3, 5, 0.2, 2.0)
    assert seen(gpu_model="h200") == Preview(1, 5, 2.0, 2.0)
    assert seen(max_price_per_hour=1).matching == 1
    assert seen(min_gpu_mem_mb=24 * 1024).matching == 3
    assert seen(min_gpu_mem_mb=25 * 1024).matching == 0
    assert seen(provider_id="cheap-3f9a1c").matching == 1
    assert seen(simulated=True).matching == 1
    assert preview(Requirements(), None, fleet).offering == 6


def test_memory_is_of_one_gpu() -> None:
    """The largest one where they are told one by one."""
    gpus = [GpuInfo(mem_total_mb=8192), GpuInfo(mem_total_mb=49152)]
    mixed = provider(workloads=[TRAIN], gpus=gpus)
    assert preview(Requirements(min_gpu_mem_mb=40_000), "train", [mixed]).matching == 1


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Preview(0, 4, None, None), "No provider matches now (of 4 that offer it); the job would wait."),
        (Preview(1, 4, 0.2, 0.2), "1 provider matches now; an hour costs 0.20, the cheapest is taken first."),
        (
            Preview(3, 4, 0.2, 2.0),
            "3 providers match now; an hour costs 0.20 to 2.00, the cheapest is taken first.",
        ),
        (Preview(2, 4, None, None), "2 providers match now; what it would cost is not known."),
    ],
)
def test_the_preview_in_words(seen: Preview, words: str) -> None:
    """How many, and what an hour costs; nothing is made up."""
    assert preview_words(seen) == words


def test_workloads_of_a_fleet() -> None:
    """By name, each once."""
    other = Workload(name="render")
    assert list(offered([provider("a", workloads=[TRAIN]), provider("b", workloads=[other, TRAIN])])) == [
        "render",
        "train",
    ]


@given(st.sampled_from(TRAIN.params), st.text(max_size=30))
def test_any_text_is_a_value_or_is_refused_in_words(param: WorkloadParam, text: str) -> None:
    """Whatever is typed into whatever field: a value of its type, or a sentence."""
    try:
        value = value_of(param, text)
    except DraftError as error:
        assert error.field == f"param-{param.name}"  # noqa: PT017
        return
    kinds = {"integer": int, "number": float, "boolean": bool, "string": str}
    assert type(value) is kinds[param.type]


FIELDS = ("gpu", "memory", "price", "provider", "timeout", "retries")


@given(st.fixed_dictionaries({name: st.text(max_size=12) for name in FIELDS}))
def test_any_form_is_a_job_or_is_refused_in_words(fields: dict[str, str]) -> None:
    """Nothing that is typed makes the form fail."""
    try:
        draft(**fields).job()
    except DraftError as error:
        assert error.field in fields  # noqa: PT017
