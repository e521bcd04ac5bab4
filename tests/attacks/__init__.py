"""A real hub, attacked over real sockets by those who keep to no rule."""
