#include <chrono>
#include <memory>
#include <ostream>

#include <CLI/CLI.hpp>

#include "tunnelctl/commands/monitor.h"
#include "tunnelctl/commands/sources.h"
#include "tunnelctl/lint/lint.h"
#include "tunnelctl/monitor/report.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl {
namespace {

struct Verify : PackOptions {
  std::string from = "now-1h", to = "now";
  std::string wait = "0s";
  std::string slow = "5s";
  bool no_links = false;
  std::string junit{};
};

struct Lint {
  std::vector<std::string> packs{"tunnel"};
  bool list = false;
  bool suppressed = false;
  bool strict = false;
};

Result<monitor::Verified> verify_directly(const std::vector<pack::Pack>& packs, prometheus::Connection to,
                                          monitor::VerifyOptions options, Session& session) {
  options.compile.target = monitor::Target::prometheus;
  auto server = prometheus::Server::make(std::move(to), session.stop);
  if (!server) return tl::unexpected(server.error());
  auto logs = straight_to_loki(session);
  if (!logs) return tl::unexpected(logs.error());
  std::optional<prometheus::Loki> loki;
  if (*logs) {
    auto made = prometheus::Loki::make(std::move(**logs), session.stop);
    if (!made) return tl::unexpected(made.error());
    loki = std::move(*made);
  }
  return monitor::verify(*server, loki ? &*loki : nullptr, packs, options, session.stop);
}

Result<monitor::Verified> verify_any(const Verify& options, const std::vector<pack::Pack>& packs,
                                     const monitor::VerifyOptions& base, Session& session) {
  auto direct = straight_to_prometheus(session);
  if (!direct) return tl::unexpected(direct.error());
  // An address on the command line says what is meant; else Grafana is asked, if one is named.
  if (*direct && (!session.globals.prometheus_url.empty() || !session.names_grafana()))
    return verify_directly(packs, std::move(**direct), base, session);
  auto server = session.grafana();
  if (!server)
    return fail(server.error().kind,
                server.error().message + "; or ask Prometheus directly (--prometheus-url, PROMETHEUS_URL)");
  monitor::Verified all{.good = true};
  for (const auto& pack : packs) {
    auto compile = compile_options(pack, options, session, *server);
    if (!compile) return tl::unexpected(compile.error());
    monitor::VerifyOptions through = base;
    through.compile = std::move(*compile);
    auto one = monitor::verify(*server, std::span(&pack, 1), through, session.stop);
    for (auto& check : one.checks) all.checks.push_back(std::move(check));
    for (const auto& [status, count] : one.counts) all.counts[status] += count;
    all.good = all.good && one.good;
  }
  return all;
}

Result<ExitStatus> run(const Verify& options, Session& session) {
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  monitor::VerifyOptions verify{.from = options.from, .to = options.to, .links = !options.no_links};
  for (const auto& [text, target, name] :
       {std::tuple{&options.wait, &verify.wait, "--wait"}, {&options.slow, &verify.slow, "--slow"}}) {
    const auto parsed = pack::duration(*text);
    if (!parsed) return fail(Error::Kind::bad_input, std::string(name) + ": " + parsed.error().message);
    *target = *parsed;
  }
  const auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  if (const auto range = times::range(options.from, options.to, now); !range)
    return tl::unexpected(range.error());
  if (session.globals.parallel > 0) verify.parallel = session.globals.parallel;
  verify.progress = [&session](std::size_t done, std::size_t all) {
    session.progress(std::to_string(done) + "/" + std::to_string(all) + " queries");
  };
  const auto verified = verify_any(options, loaded.packs, verify, session);
  session.progress("");
  if (!verified) return tl::unexpected(verified.error());
  if (!options.junit.empty())
    if (auto written = write_file(options.junit, monitor::to_junit(*verified)); !written)
      return tl::unexpected(written.error());
  session.out << (session.json() ? pretty(monitor::to_json(*verified)) : monitor::to_text(*verified));
  if (session.stop.stop_requested()) return ExitStatus::interrupted;
  return verified->good ? ExitStatus::ok : ExitStatus::failure;
}

Result<ExitStatus> list_checks(Session& session) {
  if (session.json()) {
    Json list = Json::array();
    for (const auto& check : lint::list_checks())
      list.push_back({{"check", check.id},
                      {"severity", lint::name(check.severity)},
                      {"about", check.about},
                      {"also", check.also}});
    session.out << pretty(list);
    return ExitStatus::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& check : lint::list_checks())
    rows.push_back(
        {std::string(check.id), std::string(lint::name(check.severity)), std::string(check.about)});
  terminal::print_table(session.out, {"CHECK", "SEVERITY", "ABOUT"}, rows);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const Lint& options, Session& session) {
  if (options.list) return list_checks(session);
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  Json list = Json::array();
  std::size_t errors = 0, warnings = 0, suppressed = 0;
  for (const auto& pack : loaded.packs) {
    for (const auto& finding : lint::lint(pack)) {
      const bool accepted = !finding.suppressed.empty();
      if (accepted)
        ++suppressed;
      else if (finding.severity == lint::Severity::error)
        ++errors;
      else if (finding.severity == lint::Severity::warning)
        ++warnings;
      if (accepted && !options.suppressed) continue;
      if (session.json()) {
        Json one{{"check", finding.check},
                 {"severity", lint::name(finding.severity)},
                 {"place", pack::text(finding.place)},
                 {"object", finding.object},
                 {"message", finding.message}};
        if (accepted) one["suppressed"] = finding.suppressed;
        list.push_back(std::move(one));
        continue;
      }
      const auto colour = accepted                                      ? terminal::Colour::grey
                          : finding.severity == lint::Severity::error   ? terminal::Colour::red
                          : finding.severity == lint::Severity::warning ? terminal::Colour::yellow
                                                                        : terminal::Colour::none;
      const std::string place = pack::text(finding.place);
      session.out << place << (place.empty() ? "" : ": ")
                  << terminal::paint(lint::name(finding.severity), colour, session.coloured()) << ": "
                  << finding.object << ": " << terminal::harmless(finding.message) << " [" << finding.check
                  << "]" << (accepted ? " accepted: " + finding.suppressed : std::string()) << '\n';
    }
  }
  if (session.json()) session.out << pretty(list);
  session.say(std::to_string(errors) + " errors, " + std::to_string(warnings) + " warnings, " +
              std::to_string(suppressed) + " accepted with a reason.");
  return errors > 0 || (options.strict && warnings > 0) ? ExitStatus::failure : ExitStatus::ok;
}

}  // namespace

void add_monitor_checks(CLI::App& group, Chosen& chosen) {
  auto verify = std::make_shared<Verify>();
  auto& verb =
      add_verb(group, chosen, "verify", "Runs every query and looks at every rule: does it return data?",
               "  tunnelctl monitor verify --wait 2m --junit verify.xml\n"
               "  tunnelctl monitor verify --prometheus-url http://127.0.0.1:9090",
               verify);
  add_pack_options(verb, *verify);
  verb.add_option("--from", verify->from, "start of the time range")
      ->type_name("TIME")
      ->capture_default_str();
  verb.add_option("--to", verify->to, "end of the time range")->type_name("TIME")->capture_default_str();
  verb.add_option("--wait", verify->wait, "ask again that long what has no data yet")
      ->type_name("DURATION")
      ->capture_default_str();
  verb.add_option("--slow", verify->slow, "queries that take longer are called slow")
      ->type_name("DURATION")
      ->capture_default_str();
  verb.add_option("--junit", verify->junit, "write the result for CI, too")->type_name("FILE");
  verb.add_flag("--no-links", verify->no_links, "do not follow links");

  auto lint = std::make_shared<Lint>();
  auto& judge =
      add_verb(group, chosen, "lint", "Judges packs without any server: what would mislead or stay silent",
               "  tunnelctl monitor lint\n  tunnelctl monitor lint ./my-pack --strict", lint);
  judge.add_option("PACK", lint->packs, "names of shipped packs, or folders with pack.yaml")
      ->capture_default_str();
  judge.add_flag("--list", lint->list, "list the checks");
  judge.add_flag("--suppressed", lint->suppressed, "show what packs accept, too, with the reasons");
  judge.add_flag("--strict", lint->strict, "warnings fail, too");
}

}  // namespace tunnelctl
