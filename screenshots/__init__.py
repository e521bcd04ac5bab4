"""Pictures of the real console, made by `make screenshots`."""
