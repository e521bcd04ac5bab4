"""What may be set for a program of ours: its file (TOML), its environment, its flags, and what applies of it.

A program describes its settings once, as msgspec structs, in a `schema.Schema`. The file that it can write,
the check of a file, the precedence and the words for what is wrong all follow from that.
"""
