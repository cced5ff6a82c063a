#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/links.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/datasources.h"
#include "tunnelctl/grafana/links.h"
#include "tunnelctl/grafana/panels.h"

extern char** environ;

namespace tunnelctl {
namespace {

struct LinkDashboard {
  std::string uid;
  LinkFlags flags;
  bool unchecked = false;
};

struct LinkExplore {
  std::string datasource;
  std::vector<std::string> queries;
  bool instant = false;
  LinkFlags flags;
};

Result<grafana::LinkOptions> link_options(const LinkFlags& flags, Session& session) {
  const auto connection = session.connection();
  if (!connection) return tl::unexpected(connection.error());
  grafana::LinkOptions options{.from = flags.from, .to = flags.to, .org = connection->org};
  for (const auto& one : flags.vars) {
    const auto sign = one.find('=');
    if (sign == std::string::npos || sign == 0)
      return fail(Error::Kind::bad_input, "--var \"" + one + "\" must read NAME=VALUE");
    options.vars.emplace_back(one.substr(0, sign), one.substr(sign + 1));
  }
  return options;
}

/// By /api/short-urls. Its answer names the server as it calls itself; the link names it as others reach it.
Result<std::string> shortened(grafana::Server& server, const std::string& link) {
  const auto path = grafana::short_path(server.public_url(), link);
  if (!path) return tl::unexpected(path.error());
  const grafana::Call call{.method = "POST", .path = "/api/short-urls", .body = {{"path", *path}}};
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  const auto url = grafana::text_of(answer->json, "url");
  const auto at = url.find("/goto/");
  if (at == std::string::npos)
    return fail(Error::Kind::unavailable, "POST " + server.url() + call.path +
                                              ": the answer holds no link: " + grafana::message_of(*answer));
  return server.public_url() + url.substr(at);
}

void warn_of_unknown(const grafana::LinkOptions& options, const Json& content, const Session& session) {
  for (const auto& [name, value] : options.vars)
    if (!grafana::find(content, {.variable = name}))
      session.warn("the dashboard has no variable \"" + name + "\"; Grafana will ignore it");
}

Result<std::int64_t> panel_id(const Json& content, const std::string& name) {
  std::string text = name;
  if (!content.is_null()) {
    const auto place = grafana::find(content, {.panel = name});
    if (!place) return tl::unexpected(place.error());
    const Json& id = grafana::member(*grafana::at(content, *place), "id");
    text = id.is_string() ? id.get<std::string>() : id.dump();
  }
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(Error::Kind::bad_input,
                content.is_null() ? "with --unchecked a panel is named by its number, not \"" + name + "\""
                                  : "panel \"" + name + "\" has no number, so no link can name it");
  return number;
}

Result<ExitStatus> print_link(const Result<std::string>& link, Session& session) {
  if (!link) return tl::unexpected(link.error());
  if (session.json())
    session.out << pretty({{"url", *link}});
  else
    session.out << *link << '\n';
  return ExitStatus::ok;
}

Result<ExitStatus> run(const LinkDashboard& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  Json content;
  if (!options.unchecked) {
    // Grafana answers 200 with its page for any address: only the API knows what is there.
    auto dashboard = grafana::read_dashboard(*server, options.uid);
    if (!dashboard) return tl::unexpected(dashboard.error());
    content = std::move(dashboard->content);
  }
  return print_link(page_link(*server, options.uid, content, options.flags, session), session);
}

Result<ExitStatus> run(const LinkExplore& options, Session& session) {
  const auto how = link_options(options.flags, session);
  if (!how) return tl::unexpected(how.error());
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto datasource = grafana::find_datasource(*server, options.datasource);
  if (!datasource) return tl::unexpected(datasource.error());
  grafana::ExploreTarget target{
      .datasource_uid = datasource->uid, .datasource_type = datasource->type, .queries = {}};
  for (const auto& text : options.queries) {
    const auto number = target.queries.size();
    const auto ref =
        number < 26 ? std::string(1, static_cast<char>('A' + number)) : "Q" + std::to_string(number + 1);
    target.queries.push_back({.ref = ref, .expr = text, .instant = options.instant});
  }
  auto link = grafana::explore_link(server->public_url(), server->version(), target, *how);
  if (link && options.flags.brief) link = shortened(*server, *link);
  return print_link(link, session);
}

}  // namespace

void add_link_flags(CLI::App& verb, LinkFlags& flags) {
  verb.add_option("--from", flags.from, "start: now-1h, 2026-01-01T00:00:00Z, or epoch milliseconds")
      ->type_name("TIME");
  verb.add_option("--to", flags.to, "end, likewise")->type_name("TIME");
  verb.add_flag("--short", flags.brief, "let the server make a short link of it");
}

void add_link_vars(CLI::App& verb, LinkFlags& flags) {
  verb.add_option("--var", flags.vars, "a template variable's value; again for more")
      ->allow_extra_args(false)
      ->type_name("NAME=VALUE");
}

Result<std::string> page_link(grafana::Server& server, const std::string& uid, const nlohmann::json& content,
                              const LinkFlags& flags, Session& session) {
  const auto options = link_options(flags, session);
  if (!options) return tl::unexpected(options.error());
  if (!content.is_null()) warn_of_unknown(*options, content, session);
  Result<std::string> link;
  if (flags.panel.empty()) {
    link = grafana::dashboard_link(server.public_url(), uid, *options);
  } else {
    const auto id = panel_id(content, flags.panel);
    if (!id) return tl::unexpected(id.error());
    link = grafana::panel_link(server.public_url(), uid, *id, *options);
  }
  if (!link || !flags.brief) return link;
  return shortened(server, *link);
}

Result<ExitStatus> open_browser(const std::string& link, Session& session) {
  if (!session.out_is_terminal && !session.err_is_terminal)
    return refuse(session, ExitStatus::usage, "--browser is for a person at a terminal; the link is printed");
  std::string program = "xdg-open";
  std::string address = link;
  char* const words[] = {program.data(), address.data(), nullptr};
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  // Browsers talk; that is not this command's output.
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    ::posix_spawn_file_actions_addopen(&files, stream, "/dev/null", O_RDWR, 0);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, program.c_str(), &files, nullptr, words, environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0)
    return fail(Error::Kind::unavailable,
                "no browser could be started (xdg-open); open the printed link by hand");
  return ExitStatus::ok;
}

void add_link(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("link", "Links to Grafana's pages");
  group.require_subcommand(1);
  const auto page = [](CLI::App& verb, LinkDashboard& options) {
    verb.add_option("uid", options.uid, "the dashboard's uid")->required()->type_name("UID");
    add_link_flags(verb, options.flags);
    add_link_vars(verb, options.flags);
    verb.add_flag("--unchecked", options.unchecked, "do not ask whether it exists");
  };
  {
    auto options = std::make_shared<LinkDashboard>();
    page(add_verb(group, chosen, "dashboard", "Prints a dashboard's address",
                  "  tunnelctl link dashboard tunnel-health --from now-6h --to now\n"
                  "  tunnelctl link dashboard tunnel-health --var instance=edge-1:9464 --var user_tier=gold "
                  "--short",
                  options),
         *options);
  }
  {
    auto options = std::make_shared<LinkDashboard>();
    auto& verb = add_verb(group, chosen, "panel", "Prints the address of one panel",
                          "  tunnelctl link panel tunnel-health 4 --from now-1h\n"
                          "  tunnelctl link panel tunnel-health \"Error ratio\" --from 2026-01-01T00:00:00Z "
                          "--to 2026-01-01T01:00:00Z",
                          options);
    page(verb, *options);
    verb.add_option("panel", options->flags.panel, "its id or exact title")
        ->required()
        ->type_name("ID|TITLE");
  }
  {
    auto options = std::make_shared<LinkExplore>();
    auto& verb = add_verb(
        group, chosen, "explore", "Prints an address that opens Explore with queries",
        "  tunnelctl link explore prom-1 --query 'sum(rate(tunnel_requests_total[5m]))' --from now-1h\n"
        "  tunnelctl link explore Loki --query '{service=\"tunneld\"} |= \"TUNNEL_015\"' --short",
        options);
    verb.add_option("datasource", options->datasource, "the data source's uid or name")
        ->required()
        ->type_name("UID|NAME");
    verb.add_option("--query", options->queries, "PromQL, LogQL or what it speaks; again for more")
        ->allow_extra_args(false)
        ->type_name("TEXT");
    verb.add_flag("--instant", options->instant, "one value instead of a range");
    add_link_flags(verb, options->flags);
  }
}

}  // namespace tunnelctl
