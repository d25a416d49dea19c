"""What goes over HTTP: the bodies of requests and responses, a module for each group of routes."""
