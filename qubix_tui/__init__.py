"""QUBIX: the wire contract, the client, the hub and the console of a GPU marketplace's live operations."""

__version__ = "0.1.0"
