"""What holds for all tests."""

import signal

from hypothesis import HealthCheck, settings

# How long an example takes is the machine's matter; speed is measured in `benchmarks/`.
settings.register_profile("qubix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qubix")

# A shell lets what it starts in the background ignore these, and the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ignored in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(_ignored, signal.SIG_DFL)
