#pragma once

#include <filesystem>
#include <stop_token>

#include "tunnelctl/client/agent.h"
#include "tunnelctl/client/server.h"
#include "tunnelctl/client/sshd.h"

namespace tunnelctl::client {

/// The real one: tunneld at `server`, whose keys are pinned in `folder`, and OpenSSH's sshd.
/// `server_keys`: fingerprints of its SSH keys; empty: those it shows first. All of these outlive the agent;
/// `stop` cuts short what waits for the network in another thread.
AgentWorld agent_world(asio::io_context& io, ServerSettings server, const Sshd& sshd,
                       const std::filesystem::path& folder, std::stop_token stop,
                       std::function<void(logging::Level, std::string_view, logging::Fields)> tell,
                       std::vector<std::string> server_keys = {});

/// "https://host:port" of a server's address, by which its keys are pinned.
std::string origin_of(std::string_view server_url);

/// Whether what an sshd said is of interest to who runs the agent: not the lines of every session.
bool is_worth_telling(std::string_view sshd_line);

}  // namespace tunnelctl::client
