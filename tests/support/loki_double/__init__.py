"""A Loki for tests: see README.md."""
