#include "tunneld/commands.h"

#include <signal.h>
#include <sys/prctl.h>

#include <ostream>
#include <utility>

#include "common/config_values.h"
#include "common/log.h"
#include "common/sanitizer.h"
#include "tunneld/access/local_issuer.h"
#include "tunneld/build.h"
#include "tunneld/ssh/successions.h"

namespace tunneld {
namespace {

Result<StateDir> open_state_dir(const Config& config) {
  const auto path = config.state_dir.empty() ? StateDir::default_path() : config.state_dir;
  return StateDir::open(path, StateDir::Use::shared);
}

/// Writes the last log lines on every way out.
struct LogEnd {
  LogEnd() = default;
  ~LogEnd() { logging::stop(); }
  LogEnd(const LogEnd&) = delete;
  LogEnd& operator=(const LogEnd&) = delete;
};

}  // namespace

Result<App::End> serve(const ConfigSource& source) {
  // No core dump and no debugger of the same user: memory holds tokens and keys.
  if (!sanitizer::kUsed) ::prctl(PR_SET_DUMPABLE, 0);
  ::signal(SIGPIPE, SIG_IGN);
  auto manager = ServiceManager::from_environment();
  const LogEnd log_end;
  auto app = App::start(source, std::move(manager));
  if (!app) return tl::unexpected(app.error());
  return (*app)->run();
}

Result<void> check_config(const ConfigSource& source, std::ostream& out, std::ostream& err) {
  auto configuration = load_config(source.file, source.overrides);
  if (!configuration) return tl::unexpected(configuration.error());
  for (const auto& warning : (*configuration)->warnings) err << "warning: " << warning << '\n';
  out << "ok: " << (source.file ? source.file->string() : "embedded defaults") << '\n';
  return {};
}

Result<void> config_reference(std::ostream& out) {
  const Configuration defaults;
  out << defaults.schema.reference();
  return {};
}

Result<void> create_token(const ConfigSource& source, const TokenCreate& options, std::ostream& out) {
  auto configuration = load_config(source.file, source.overrides);
  if (!configuration) return tl::unexpected(configuration.error());
  const auto& config = (*configuration)->values;
  if (config.auth.mode != access::AuthMode::local)
    return fail(Error::Kind::bad_input,
                "auth.mode is not local: this daemon believes another issuer's tokens, so ask that one");
  const auto lifetime = config::parse_duration(
      options.expires, {std::chrono::seconds(1), std::chrono::hours(24)}, std::chrono::seconds(1));
  if (!lifetime) return fail(Error::Kind::bad_input, "--expires: " + lifetime.error());
  auto state_dir = open_state_dir(config);
  if (!state_dir) return tl::unexpected(state_dir.error());
  auto issuer = access::LocalIssuer::load_or_create(state_dir->file(kIssuerKeyFile).string());
  if (!issuer) return tl::unexpected(issuer.error());
  access::TokenRequest request;
  request.subject = options.subject;
  request.tier = options.tier;
  request.scopes = options.scopes;
  request.lifetime = std::chrono::duration_cast<std::chrono::seconds>(*lifetime);
  access::LocalIssuer::Names names;
  names.issuer = config.auth.issuer;
  names.audience = options.audience.value_or(config.auth.audience);
  names.tier_claim = config.auth.tier_claim;
  names.scope_claim = config.auth.scope_claim;
  auto token = issuer->sign(request, names, std::chrono::system_clock::now());
  if (!token) return tl::unexpected(token.error());
  out << token->reveal() << '\n';
  return {};
}

Result<void> print_ssh_key(const ConfigSource& source, SshKey which, std::ostream& out, std::ostream& err) {
  auto configuration = load_config(source.file, source.overrides);
  if (!configuration) return tl::unexpected(configuration.error());
  auto state_dir = open_state_dir((*configuration)->values);
  if (!state_dir) return tl::unexpected(state_dir.error());
  const auto files = key_files(*state_dir);
  if (which == SshKey::rotate) {
    auto rotated = ssh::take_next_identity(files, identity_comment());
    if (!rotated) return tl::unexpected(rotated.error());
    err << "tunneld shows this key from its next start on, and its agents follow it; the one before is kept "
           "in "
        << files.previous.string() << '\n';
  }
  auto identity = which == SshKey::next ? ssh::next_identity(files, identity_comment())
                                        : ssh::Identity::load_or_create(files.identity, identity_comment());
  if (!identity) return tl::unexpected(identity.error());
  out << identity->public_line() << '\n';
  return {};
}

void print_version(bool with_dependencies, std::ostream& out) {
  out << "tunneld " << build::version() << '\n';
  if (!with_dependencies) return;
  for (const auto& [name, version] : build::dependencies()) out << name << ' ' << version << '\n';
}

}  // namespace tunneld
