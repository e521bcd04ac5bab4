"""A made-up fleet that speaks the wire of real agents, for demonstrations, pictures and load.

Every provider of it is registered with ``simulated: true`` and shown as such. What it does comes from a seed
and the number of the tick, never from the clock: the same seed gives the same fleet and the same history.
"""

from qubix_tui.simulation.fleet import SimulationRefused, SimulationReport, simulate

__all__ = ["SimulationRefused", "SimulationReport", "simulate"]
