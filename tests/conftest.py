"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes is the machine's matter; speed is measured in `benchmarks/`.
settings.register_profile("qubix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qubix")
