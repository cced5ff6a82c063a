#include "tunneld/build.h"

#include <link.h>
#include <openssl/crypto.h>
#include <spdlog/version.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include <boost/version.hpp>
#include <nlohmann/json.hpp>

#include "build_info.h"
#include "common/http_client.h"
#include "tunneld/ssh/session.h"

namespace tunneld::build {
namespace {

std::string dotted(unsigned major, unsigned minor, unsigned patch) {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

struct Wanted {
  std::string name;  // "libyaml-cpp.so."
  std::string version;
};

int look_at(dl_phdr_info* info, std::size_t, void* data) {
  auto& wanted = *static_cast<Wanted*>(data);
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(info->dlpi_name, nullptr), &std::free);
  const std::string path = real ? real.get() : "";
  const auto at = path.rfind('/' + wanted.name);
  if (at == std::string::npos) return 0;
  wanted.version = path.substr(at + 1 + wanted.name.size());
  return 1;
}

/// The version in the file name of a shared library that is loaded: for libraries without a macro.
std::string loaded_version(const std::string& name) {
  Wanted wanted{name + ".so.", "linked statically"};
  ::dl_iterate_phdr(look_at, &wanted);
  return wanted.version;
}

}  // namespace

std::string version() {
  return TUNNEL_VERSION;
}

std::string commit() {
#ifdef TUNNEL_COMMIT
  return TUNNEL_COMMIT;
#else
  return "unknown";
#endif
}

std::string tls_library() {
  return std::string("OpenSSL ") + OpenSSL_version(OPENSSL_VERSION_STRING);
}

std::string ssh_library() {
  return "libssh2 " + ssh::library_version();
}

std::vector<std::pair<std::string, std::string>> dependencies() {
  std::string boost = BOOST_LIB_VERSION;
  std::replace(boost.begin(), boost.end(), '_', '.');
  return {{"Boost", boost},
          {"OpenSSL", OpenSSL_version(OPENSSL_VERSION_STRING)},
          {"libssh2", ssh::library_version() + " (package " TUNNEL_LIBSSH2_PACKAGE ")"},
          {"libssh2 fixes", TUNNEL_LIBSSH2_FIXES},
          {"libcurl", http::library_version()},
          {"yaml-cpp", loaded_version("libyaml-cpp")},
          {"spdlog", dotted(SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
          {"nlohmann_json",
           dotted(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
          {"prometheus-cpp", loaded_version("libprometheus-cpp-core")}};
}

}  // namespace tunneld::build
