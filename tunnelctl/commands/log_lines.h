#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "tunnelctl/commands/session.h"
#include "tunnelctl/patterns/redaction.h"
#include "tunnelctl/prometheus/loki.h"

/// Log lines as commands show them.
namespace tunnelctl {

struct LineOptions {
  bool labels = false;            // in texts; JSON always has them
  bool raw = false;               // secrets too
  bool redact_addresses = false;  // IP addresses as well
};

/// --labels, --raw, --redact-addresses
void add_line_options(CLI::App& verb, LineOptions& options);

/// RFC 3339 in UTC with nanoseconds: "2026-01-31T10:00:00.123456789Z".
std::string exact_time(prometheus::Instant instant);

class LinePrinter {
 public:
  LinePrinter(const LineOptions& options, bool coloured)
      : options_(options), coloured_(coloured), redaction_({.addresses = options.redact_addresses}) {}

  /// "2026-01-31T10:00:00.123Z  error  the line": one line that steers no terminal, without its end.
  std::string text(const prometheus::LogLine& line) const;
  /// {"time", "level", "line", "labels", "metadata", "parsed"}
  nlohmann::json json(const prometheus::LogLine& line) const;
  /// What may be shown of a text.
  std::string shown(std::string_view text) const;

 private:
  nlohmann::json shown(const prometheus::Texts& texts) const;
  /// Of a label: its name says whether it is a secret.
  std::string value(std::string_view name, const std::string& value) const;

  LineOptions options_;
  bool coloured_ = false;
  patterns::Redaction redaction_;
};

}  // namespace tunnelctl
