"""Jobs on a provider's machine, with real processes."""
