"""Programs that send real requests to a running service."""
