"""What a GPU provider runs: sensors, a sampler, and the link to the hub."""
