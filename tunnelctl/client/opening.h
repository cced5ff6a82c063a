#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "tunnel/priority.h"
#include "tunnel/refusal.h"

/// The lines with which a stream of `tunnel.v1` begins (docs/api/links.md).
namespace tunnelctl::client {

/// {"service":"db","priority":"high"} with its line end.
std::string opening_line(std::string_view service, tunnel::Priority priority);

/// Gathers the server's answer: one line of JSON, behind which the service's bytes come.
class OpeningAnswer {
 public:
  /// Bytes of a line; a server that goes on for longer speaks something else.
  static constexpr std::size_t kLongest = 16 * 1024;

  /// Takes the bytes that belong to the line and returns how many those were; the rest are the service's.
  /// Not after it is complete().
  std::size_t feed(std::string_view bytes);
  bool complete() const { return complete_; }
  /// The stream has ended: what came is all there is of the line.
  void end() { complete_ = true; }
  /// What the line said, once complete: a refusal with the server's code, or websocket_error for what is
  /// no answer.
  tunnel::Served<void> result() const;

 private:
  std::string line_;
  bool complete_ = false;
  bool too_long_ = false;
};

/// "TUNNEL_017"; nullopt for others.
std::optional<tunnel::Code> code_named(std::string_view name);

/// How it is told to a person: message, code and next step in one line.
std::string told(const tunnel::Refusal& refusal);

}  // namespace tunnelctl::client
