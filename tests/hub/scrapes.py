"""Reads what Prometheus would be answered, with the parsers of prometheus-client."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from qubix_tui.hub import exposition
from qubix_tui.hub.exposition import Picture

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by name and sorted labels."""


def read(text: bytes, *, openmetrics: bool = True) -> Samples:
    """Every sample of an answer; fails where one is given twice."""
    samples: Samples = {}
    for family in (read_openmetrics if openmetrics else read_text)(text.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} is given twice"
            samples[key] = sample.value
    return samples


def scrape(picture: Picture, *, openmetrics: bool = True) -> Samples:
    """What a picture shows of the hub and its fleet; the process's own figures are left out."""
    parts: list[bytes] = []
    exposition.write(picture, openmetrics=openmetrics, emit=parts.append)
    samples = read(b"".join(parts), openmetrics=openmetrics)
    return {key: value for key, value in samples.items() if not key[0].startswith("process_")}
