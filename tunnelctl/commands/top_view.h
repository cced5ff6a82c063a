#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/tunnel/overview.h"

namespace tunnelctl {

/// All that one refresh of `top` has to show. Without a token the lists are empty.
struct TopView {
  std::string url{};
  tunnel::Overview now{};
  std::optional<tunnel::Rates> rates{};
  std::vector<tunnel::Connected> connections{};  // busiest first
  std::vector<tunnel::Breaker> breakers{};       // that are not closed
  std::vector<tunnel::User> users{};             // by requests
};

/// `rows`: how many lines there is room for; connections are left out first, and their heading says how many.
/// 0: as many as there are.
std::vector<std::string> top_lines(const TopView& view, std::size_t rows, bool coloured);
/// One refresh as one JSON object.
tunnel::Json top_json(const TopView& view);

/// Busiest first: by bytes of both directions in the last interval, then the oldest.
void sort_busiest_first(std::vector<tunnel::Connected>& connections);

}  // namespace tunnelctl
