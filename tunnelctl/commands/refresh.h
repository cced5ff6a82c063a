#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tunnelctl/commands/session.h"
#include "tunnelctl/terminal/screen.h"

namespace tunnelctl {

/// Where a view that is shown again and again goes: in place on a terminal, one block after another
/// elsewhere, one JSON object a line for programs.
class Refresh {
 public:
  explicit Refresh(Session& session);
  /// Lines there is room for; 0: any number.
  std::size_t rows() const;
  void show(const std::vector<std::string>& lines);
  /// Until the next refresh is due. False when the person pressed q, or after a stop.
  bool wait(std::chrono::milliseconds interval) const;

 private:
  Session& session_;
  std::unique_ptr<terminal::Screen> screen_{};
  bool first_ = true;
};

/// How it ends when the person ends it.
ExitStatus ended_by_person(const Session& session);

}  // namespace tunnelctl
