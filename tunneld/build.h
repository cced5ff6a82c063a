#pragma once

#include <string>
#include <utility>
#include <vector>

/// What this program is made of.
namespace tunneld::build {

std::string version();      // "0.1.0"
std::string commit();       // abbreviated, "unknown" outside a checkout
std::string tls_library();  // "OpenSSL 3.0.17"
std::string ssh_library();  // "libssh2 1.11.1"

/// Libraries by name with the versions compiled in or, for shared ones that name none, loaded.
std::vector<std::pair<std::string, std::string>> dependencies();

}  // namespace tunneld::build
