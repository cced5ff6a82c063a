#pragma once

#include <initializer_list>
#include <memory>
#include <string_view>

#include "tunnelctl/client/preferences.h"
#include "tunnelctl/commands/session.h"

namespace tunnelctl {

/// What connect and agent go by: `options` of the command line, then the environment, the configuration file
/// and the profile. Fails with bad_input, as a wrong configuration does.
Result<client::Resolved> client_settings(Session& session, client::Values options);

/// Adds the options of those settings; what is given ends up in `values`, checked.
void add_client_options(CLI::App& verb, const std::shared_ptr<client::Values>& values,
                        std::initializer_list<std::string_view> keys);

/// get, set, list and reset.
void add_config_values(CLI::App& group, Chosen& chosen);

}  // namespace tunnelctl
