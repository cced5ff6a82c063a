#pragma once

#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "tunnel/refusal.h"

namespace tunneld::admin {

/// Why something an operator asked for was not done: the refusal, and a sentence for each thing that was
/// wrong ("tiers.free.queue: 5 is too small; allowed: 10 to 1000").
struct Fault {
  tunnel::Refusal refusal;
  std::vector<std::string> details{};
};

template <class T>
using Done = tl::expected<T, Fault>;

}  // namespace tunneld::admin
