"""An OpenTelemetry collector for tests: takes traces by OTLP over HTTP. See README.md."""
