"""Whether this machine can serve: everything that has to be so is looked at, for real, and told in words."""

from agent.doctor.finding import Finding, can_serve
from agent.doctor.look import Patient, examine

__all__ = ["Finding", "Patient", "can_serve", "examine"]
