"""A Grafana for tests: answers as a recorded Grafana 12.4.0 (OSS) does, refuses what that refused.

`python3 tests/support/grafana_double/server.py --port 0` prints its URL and serves until it is ended.
README.md says what it covers, what not, and how a test steers it under /_double/.
"""
