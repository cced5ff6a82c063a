#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/daemon/overview.h"

namespace tunnelctl {

/// All that one refresh of `top` has to show. Without a token the lists are empty.
struct TopView {
  std::string url{};
  daemon::Overview now{};
  std::optional<daemon::Rates> rates{};
  std::vector<daemon::Connected> connections{};  // busiest first
  std::vector<daemon::Breaker> breakers{};       // that are not closed
  std::vector<daemon::User> users{};             // by requests
};

/// `rows`: how many lines there is room for; connections are left out first, and their heading says how many.
/// 0: as many as there are.
std::vector<std::string> top_lines(const TopView& view, std::size_t rows, bool coloured);
/// One refresh as one JSON object.
daemon::Json top_json(const TopView& view);

/// Busiest first: by bytes of both directions in the last interval, then the oldest.
void sort_busiest_first(std::vector<daemon::Connected>& connections);

}  // namespace tunnelctl
