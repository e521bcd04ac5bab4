"""Measurements of the hub beside its peers."""
