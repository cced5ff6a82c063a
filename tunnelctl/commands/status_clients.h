#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/result.h"
#include "tunnelctl/commands/session.h"

/// What `status` shows of the user's own `connect` and `agent` processes on this machine.
namespace tunnelctl {

using ClientStates = std::vector<nlohmann::json>;

/// Those that run now.
Result<ClientStates> running_clients(const Session& session);

/// A block of lines for each.
std::vector<std::string> client_lines(const ClientStates& clients, bool coloured);
/// What differs between two looks: a line for each that came, changed its state, made an attempt, or ended.
/// Bytes and round trips, which always differ, are no change.
std::vector<std::string> client_changes(const ClientStates& before, const ClientStates& now);
/// {"clients":[...]}.
nlohmann::json clients_json(const ClientStates& clients);

/// `status --clients`: ok when there are some and all are connected.
Result<ExitStatus> show_clients(Session& session);
/// Until the person ends it.
Result<ExitStatus> watch_clients(Session& session);

}  // namespace tunnelctl
