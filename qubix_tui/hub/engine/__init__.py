"""Where events and state live."""
