#pragma once

#include <string>
#include <string_view>

#include "tunneld/upstream/agent_registry.h"

namespace tunneld::upstream {

/// ^[a-z0-9-]{1,63}$
bool valid_agent_id(std::string_view text);

/// What is wrong with an announcement, beginning with its field's name; empty when it is good.
std::string fault_of(const Announcement& announcement);

}  // namespace tunneld::upstream
