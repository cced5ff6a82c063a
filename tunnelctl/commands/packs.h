#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tunnelctl/commands/session.h"
#include "tunnelctl/monitor/compile.h"
#include "tunnelctl/monitor/plan.h"
#include "tunnelctl/pack/pack.h"

/// What the `monitor` commands share: the packs that are meant, and how they are compiled for a server.
namespace tunnelctl {

struct PackOptions {
  std::vector<std::string> packs{"tunnel"};
  std::vector<std::string> datasources{};  // VARIABLE=UID
  std::string target = "grafana";
  std::string notifications = "all";
  std::string runbook_url{};
  bool record_in_grafana = false;
};

/// Names or folders -> packs, checked. Prints every problem of every pack and gives ExitStatus::bad_input
/// when there is one.
struct Loaded {
  std::vector<pack::Pack> packs{};
  std::optional<ExitStatus> failed{};
};
Loaded load_packs(const std::vector<std::string>& names, Session& session);

std::set<std::string> names_of(const std::vector<pack::Pack>& packs);

/// The value of a secret, from its environment variable or from its file (relative to the working folder).
std::optional<Secret> secret_of(const pack::SecretSource& source, const Session& session);

/// Compile options for a server: its data sources are looked up and chosen.
Result<monitor::CompileOptions> compile_options(const pack::Pack& pack, const PackOptions& options,
                                                Session& session, grafana::Server& server);

}  // namespace tunnelctl
