"""What the service remembers, in one database: events, catalogue, drift states, served lists, keys, promotions."""
