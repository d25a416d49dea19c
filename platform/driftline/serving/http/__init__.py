"""The HTTP side: the Router, what surrounds every request, routes and messages."""
