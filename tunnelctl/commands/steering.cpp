#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/pack/pack.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct LogLevelGet {};
struct LogLevelSet {
  std::string level, ttl;
};
struct ConnectionsClose {
  std::string id;
};
struct Pardon {
  std::string address;
};
struct Drain {
  bool yes = false;
};
struct Revoke {
  daemon::Revocation whom;
};
struct Revocations {};

void print(Session& session, const daemon::Json& json, const std::string& text) {
  if (session.json())
    session.out << json.dump(2, ' ', false, daemon::Json::error_handler_t::replace) << '\n';
  else
    session.out << terminal::harmless(text) << '\n';
}

Result<ExitStatus> run(const LogLevelGet&, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  const auto level = admin->log_level();
  if (!level) return tl::unexpected(level.error());
  print(session, {{"level", *level}}, *level);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const LogLevelSet& options, Session& session) {
  std::optional<std::chrono::seconds> ttl;
  if (!options.ttl.empty()) {
    const auto time = pack::duration(options.ttl);
    if (!time) return fail(Error::Kind::bad_input, "--ttl: " + time.error().message);
    ttl = std::chrono::floor<std::chrono::seconds>(*time);
    if (ttl->count() < 1) return fail(Error::Kind::bad_input, "--ttl: must be one second at least");
  }
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  const auto before = admin->log_level();
  if (!before) return tl::unexpected(before.error());
  if (const auto done = admin->set_log_level(options.level, ttl); !done) return tl::unexpected(done.error());
  daemon::Json json{{"level", options.level}, {"before", *before}};
  if (ttl) json["ttlSeconds"] = ttl->count();
  print(session, json, *before + " -> " + options.level + (ttl ? " for " + options.ttl : std::string()));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const ConnectionsClose& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  if (const auto done = admin->close_connection(options.id); !done) {
    if (done.error().kind != Error::Kind::not_found) return tl::unexpected(done.error());
    return fail(Error::Kind::bad_input, "no connection has the id \"" + terminal::harmless(options.id) +
                                            "\" (any more); tunnelctl top shows those there are");
  }
  print(session, {{"id", options.id}, {"closed", true}}, options.id + " closed");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const Pardon& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  if (const auto done = admin->pardon(options.address); !done) {
    if (done.error().kind != Error::Kind::not_found) return tl::unexpected(done.error());
    return fail(Error::Kind::bad_input,
                "the address \"" + terminal::harmless(options.address) + "\" is not in the penalty box");
  }
  print(session, {{"address", options.address}, {"pardoned", true}}, options.address + " pardoned");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const Drain& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  if (const auto ended = unless_confirmed(session, options.yes, "drain and end tunneld at " + admin->url()))
    return *ended;
  const auto deadline = admin->drain();
  if (!deadline) return tl::unexpected(deadline.error());
  print(session, {{"draining", true}, {"deadline", *deadline}},
        "draining; it ends by " + (deadline->empty() ? "itself" : *deadline));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const Revoke& options, Session& session) {
  const auto& whom = options.whom;
  const bool by_subject = !whom.subject.empty() && !whom.issuer.empty();
  const bool half = whom.subject.empty() != whom.issuer.empty();
  if (half || by_subject == !whom.token_id.empty())
    return refuse(session, ExitStatus::usage,
                  "revoke: say --token-id, or --issuer and --subject; nothing was changed");
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  if (const auto done = admin->revoke(whom); !done) return tl::unexpected(done.error());
  daemon::Json json{{"revoked", true}};
  if (by_subject) {
    json["issuer"] = whom.issuer;
    json["subject"] = whom.subject;
  } else {
    json["tokenId"] = whom.token_id;
  }
  print(session, json,
        by_subject ? "revoked: all tokens that " + whom.issuer + " has issued to " + whom.subject + " so far"
                   : "revoked: token " + whom.token_id);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const Revocations&, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  const auto list = admin->revocations();
  if (!list) return tl::unexpected(list.error());
  session.out << list->dump(2, ' ', false, daemon::Json::error_handler_t::replace) << '\n';
  return ExitStatus::ok;
}

void add_log_level(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("log-level", "How much tunneld logs");
  group.require_subcommand(1);
  add_verb(group, chosen, "get", "Shows it",
           "  tunnelctl log-level get\n  tunnelctl log-level get --output json | jq -r .level",
           std::make_shared<LogLevelGet>());
  auto set = std::make_shared<LogLevelSet>();
  auto& setting = add_verb(group, chosen, "set", "Changes it at once",
                           "  tunnelctl log-level set DEBUG --ttl 10m\n  tunnelctl log-level set INFO", set);
  setting.add_option("level", set->level, "ERROR, WARN, INFO, DEBUG or TRACE")
      ->required()
      ->transform(CLI::IsMember({"ERROR", "WARN", "INFO", "DEBUG", "TRACE"}, CLI::ignore_case))
      ->type_name("LEVEL");
  setting.add_option("--ttl", set->ttl, "goes back after that long, a day at most")->type_name("DURATION");
}

}  // namespace

void add_steering(CLI::App& app, Chosen& chosen) {
  add_log_level(app, chosen);
  CLI::App& connections = *app.add_subcommand("connection", "tunneld's connections; top lists them");
  connections.require_subcommand(1);
  auto close = std::make_shared<ConnectionsClose>();
  auto& closing =
      add_verb(connections, chosen, "close", "Closes one",
               "  tunnelctl connection close 17\n  tunnelctl connection close 17 --context prod", close);
  closing.add_option("id", close->id, "as top shows it")->required();
  auto drain = std::make_shared<Drain>();
  auto& draining = add_verb(app, chosen, "drain", "Lets tunneld finish what it serves, and end",
                            "  tunnelctl drain\n  tunnelctl drain --yes && tunnelctl events --follow", drain);
  draining.add_flag("-y,--yes", drain->yes, "do not ask");
  auto revoke = std::make_shared<Revoke>();
  auto& revoking = add_verb(app, chosen, "revoke", "Shuts out a token, or all that somebody has",
                            "  tunnelctl revoke --token-id 9f3c --reason 'laptop stolen'\n"
                            "  tunnelctl revoke --issuer https://id.example.org/ --subject alice",
                            revoke);
  revoking.add_option("--token-id", revoke->whom.token_id, "the token's jti")->type_name("JTI");
  revoking.add_option("--issuer", revoke->whom.issuer, "who issued the subject's tokens")->type_name("ISS");
  revoking.add_option("--subject", revoke->whom.subject, "whose tokens, those issued so far")
      ->type_name("SUB");
  revoking.add_option("--reason", revoke->whom.reason, "for the audit log")->type_name("TEXT");
  auto pardon = std::make_shared<Pardon>();
  auto& pardoning =
      add_verb(app, chosen, "pardon", "Lets an address try again that failed to sign in too often",
               "  tunnelctl pardon 203.0.113.7\n  tunnelctl pardon 2001:db8::1", pardon);
  pardoning.add_option("address", pardon->address, "IPv4 or IPv6")->required();
  add_verb(app, chosen, "revocations", "Shows what is revoked, as JSON",
           "  tunnelctl revocations\n  tunnelctl revocations | jq -r '.revocations[].tokenId'",
           std::make_shared<Revocations>());
}

}  // namespace tunnelctl
