"""The embedded hub: who is online, what they say, and who hears it."""
