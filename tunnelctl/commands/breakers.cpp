#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/status_view.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct BreakersList {
  bool errors = false;
};
struct BreakersReset {
  std::string id;
};

Result<ExitStatus> run(const BreakersList& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  const auto list = admin->breakers();
  if (!list) return tl::unexpected(list.error());
  if (session.json()) {
    daemon::Json json = daemon::Json::array();
    for (const auto& one : *list)
      json.push_back({{"id", one.id},
                      {"state", one.state},
                      {"service", one.service},
                      {"upstream", one.upstream},
                      {"principal", one.principal},
                      {"failures", one.failures},
                      {"successes", one.successes},
                      {"refused", one.refused},
                      {"openedAt", one.opened_at},
                      {"nextProbe", one.next_probe},
                      {"lastErrors", one.last_errors}});
    session.out << daemon::Json{{"breakers", json}}.dump(2, ' ', false,
                                                         daemon::Json::error_handler_t::replace)
                << '\n';
    return ExitStatus::ok;
  }
  if (list->empty()) {
    session.say("no breaker has anything to tell: nothing failed lately");
    return ExitStatus::ok;
  }
  std::vector<std::vector<std::string>> rows;
  const auto text = [](const std::string& value) {
    return value.empty() ? std::string("-") : terminal::harmless(value);
  };
  for (const auto& one : *list)
    rows.push_back({text(one.id), text(one.state), text(one.service), text(one.upstream),
                    terminal::shortened(text(one.principal), 16), std::to_string(one.failures),
                    std::to_string(one.refused), text(one.opened_at), text(one.next_probe)});
  terminal::print_table(
      session.out,
      {"ID", "STATE", "SERVICE", "UPSTREAM", "USER", "FAILURES", "REFUSED", "OPENED", "NEXT PROBE"}, rows);
  if (options.errors)
    for (const auto& one : *list)
      for (const auto& error : one.last_errors)
        session.out << text(one.id) << ": " << terminal::harmless(error) << '\n';
  return ExitStatus::ok;
}

Result<ExitStatus> run(const BreakersReset& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  if (const auto done = admin->reset_breaker(options.id); !done) {
    if (done.error().kind != Error::Kind::not_found) return tl::unexpected(done.error());
    return fail(Error::Kind::bad_input, "no breaker has the id \"" + terminal::harmless(options.id) +
                                            "\" (any more); tunnelctl breakers list shows those there are");
  }
  if (session.json())
    session.out << daemon::Json{{"id", options.id}, {"state", "closed"}}.dump(2) << '\n';
  else
    session.out << terminal::harmless(options.id) << " closed\n";
  return ExitStatus::ok;
}

}  // namespace

void add_breakers(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("breakers", "tunneld's circuit breakers");
  group.require_subcommand(1);
  auto list = std::make_shared<BreakersList>();
  auto& listing =
      add_verb(group, chosen, "list", "Lists those with failures, with the reasons",
               "  tunnelctl breakers list --errors\n"
               "  tunnelctl breakers list --output json | jq '.breakers[] | select(.state==\"open\")'",
               list);
  listing.add_flag("--errors", list->errors, "the last errors of each, too");
  auto reset = std::make_shared<BreakersReset>();
  auto& resetting = add_verb(group, chosen, "reset", "Closes one at once, without waiting for its probe",
                             "  tunnelctl breakers reset 0123456789abcdef\n  tunnelctl breakers reset "
                             "0123456789abcdef --context prod",
                             reset);
  resetting.add_option("id", reset->id, "as breakers list shows it")->required();
}

}  // namespace tunnelctl
