#pragma once

#include <string>
#include <vector>

#include "tunnelctl/commands/session.h"
#include "tunnelctl/grafana/json_members.h"

namespace CLI {
class App;
}

namespace tunnelctl {

/// What every link to a page can carry.
struct LinkFlags {
  std::string from{}, to{};
  std::vector<std::string> vars{};  // NAME=VALUE
  std::string panel{};              // id or exact title
  bool brief = false;               // --short
};

/// --from, --to, --short
void add_link_flags(CLI::App& verb, LinkFlags& flags);
/// --var
void add_link_vars(CLI::App& verb, LinkFlags& flags);

/// The address of a dashboard or one of its panels. `content` is the dashboard's, where panels are found by
/// title; null when it is not known, and then only ids will do.
Result<std::string> page_link(grafana::Server& server, const std::string& uid, const nlohmann::json& content,
                              const LinkFlags& flags, Session& session);

/// Starts this desktop's browser, for a person at a terminal only.
Result<ExitStatus> open_browser(const std::string& link, Session& session);

}  // namespace tunnelctl
