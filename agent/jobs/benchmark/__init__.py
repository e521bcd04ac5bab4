"""The built-in workload: measures this machine, and tells how far it is while it does.

A program of its own (``python -m agent.jobs.benchmark``) that needs nothing but Python's standard library, so
that it runs wherever the agent does, as whichever user. ``docs/workloads.md`` says what each figure counts.
"""
