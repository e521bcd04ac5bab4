"""Jobs on a provider's machine: what may run, what runs, and that nothing of it is lost or left over."""
