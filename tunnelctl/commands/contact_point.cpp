#include <algorithm>
#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/contact_points.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct ContactPointList {
  std::size_t limit = 0;
};

struct ContactPointTest {
  std::string name;
};

Result<ExitStatus> run(const ContactPointList& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto points = grafana::list_contact_points(*server);
  if (!points) return tl::unexpected(points.error());
  const bool more = options.limit > 0 && points->size() > options.limit;
  if (more) points->resize(options.limit);
  if (session.json()) {
    Json list = Json::array();
    for (const auto& point : *points) {
      Json integrations = Json::array();
      // Values are left out: a webhook's address may be as secret as a password, and the server shows it.
      for (const auto& one : point.integrations)
        integrations.push_back({{"uid", one.uid},
                                {"type", one.type},
                                {"provenance", one.provenance},
                                {"settings", one.settings}});
      list.push_back({{"name", point.name}, {"integrations", std::move(integrations)}});
    }
    session.out << pretty({{"contact_points", std::move(list)}, {"more", more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& point : *points)
      for (const auto& one : point.integrations)
        rows.push_back({terminal::harmless(point.name), one.type, one.uid,
                        one.provenance.empty() ? "-" : one.provenance});
    if (!rows.empty()) terminal::print_table(session.out, {"NAME", "TYPE", "UID", "PROVENANCE"}, rows);
  }
  say_shown(session, points->size(), more, "contact point");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const ContactPointTest& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto points = grafana::list_contact_points(*server);
  if (!points) return tl::unexpected(points.error());
  const auto point =
      std::find_if(points->begin(), points->end(), [&](const auto& one) { return one.name == options.name; });
  if (point == points->end()) {
    std::string names;
    for (const auto& one : *points) names += (names.empty() ? "" : ", ") + one.name;
    return fail(Error::Kind::not_found, "no contact point is called \"" + options.name +
                                            "\"; there are: " + (names.empty() ? "none" : names));
  }
  const auto deliveries = grafana::test_contact_point(*server, *point);
  if (!deliveries) return tl::unexpected(deliveries.error());
  std::size_t failed = 0;
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& one : *deliveries) {
    failed += one.delivered ? 0U : 1U;
    list.push_back(
        {{"uid", one.uid}, {"type", one.type}, {"delivered", one.delivered}, {"error", one.error}});
    rows.push_back(
        {one.type, one.uid, one.delivered ? "delivered" : "failed", terminal::harmless(one.error)});
  }
  if (session.json())
    session.out << pretty({{"name", point->name}, {"integrations", std::move(list)}, {"failed", failed}});
  else if (!rows.empty())
    terminal::print_table(session.out, {"TYPE", "UID", "RESULT", "ERROR"}, rows);
  session.say(std::to_string(deliveries->size() - failed) + " of " + std::to_string(deliveries->size()) +
              " delivered");
  return failed > 0 ? ExitStatus::failure : ExitStatus::ok;
}

}  // namespace

void add_contact_point(CLI::App& app, Chosen& chosen) {
  CLI::App& group =
      *app.add_subcommand("contact-point", "Contact points: who is told of alerts, and whether it arrives");
  group.require_subcommand(1);
  {
    auto options = std::make_shared<ContactPointList>();
    add_limit(add_verb(group, chosen, "list", "Lists contact points and their integrations",
                       "  tunnelctl contact-point list\n"
                       "  tunnelctl contact-point list --output json | jq -r '.contact_points[].name'",
                       options),
              options->limit);
  }
  {
    auto options = std::make_shared<ContactPointTest>();
    add_verb(group, chosen, "test", "Sends a test notification; the people behind it get it",
             "  tunnelctl contact-point test tunnel-critical\n"
             "  tunnelctl contact-point test tunnel-critical --output json | jq '.integrations[] | "
             "select(.delivered | not)'",
             options)
        .add_option("name", options->name, "its name")
        ->required()
        ->type_name("NAME");
  }
}

}  // namespace tunnelctl
