"""The `qubix` command."""
