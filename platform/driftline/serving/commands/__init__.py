"""Subcommands of ``driftline`` that concern the service."""
