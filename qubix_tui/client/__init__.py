"""A connection to a hub that stays up, and the four hooks over it."""
