#include <chrono>
#include <ostream>

#include <nlohmann/json.hpp>

#include "common/audit_chain.h"
#include "common/http_access.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl {
namespace {

using Paths = std::vector<std::filesystem::path>;

struct AuditVerify {
  std::filesystem::path directory{};
  Paths files{};
  std::string from{};
};

struct AuditSearch {
  std::filesystem::path directory{};
  Paths files{};
  std::string event{}, since{}, until{};
  std::vector<std::string> fields{};
  std::size_t limit = 0;
};

template <class Options>
Result<Paths> files_of(const Options& options) {
  if (!options.files.empty()) return options.files;
  if (options.directory.empty())
    return fail(Error::Kind::bad_input, "which audit log? Say --directory, or name its files, oldest first");
  auto files = audit_chain::files_in(options.directory);
  // A wrong argument, for the exit status.
  if (!files && files.error().kind == Error::Kind::not_found)
    return fail(Error::Kind::bad_input, files.error().message);
  return files;
}

/// An argument that names no file, for the exit status.
Error about_files(Error error) {
  if (error.kind == Error::Kind::not_found) error.kind = Error::Kind::bad_input;
  return error;
}

daemon::Json json_of(const audit_chain::Summary& summary) {
  daemon::Json json{{"intact", !summary.problem},  {"files", summary.files},
                    {"lines", summary.lines},      {"firstSeq", summary.first_seq},
                    {"lastSeq", summary.last.seq}, {"lastHash", summary.last.hash},
                    {"gaps", summary.gaps},        {"lost", summary.lost}};
  if (summary.problem)
    json["problem"] = {{"kind", audit_chain::to_string(summary.problem->fault)},
                       {"file", summary.problem->file},
                       {"line", summary.problem->line},
                       {"what", summary.problem->what}};
  return json;
}

std::string counted(std::uint64_t count, const char* noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

Result<ExitStatus> run(const AuditVerify& options, Session& session) {
  std::optional<audit_chain::Anchor> anchor;
  if (!options.from.empty()) {
    auto parsed = audit_chain::parse_anchor(options.from);
    if (!parsed) return fail(Error::Kind::bad_input, "--from: " + parsed.error().message);
    anchor = std::move(*parsed);
  }
  const auto files = files_of(options);
  if (!files) return tl::unexpected(files.error());
  const auto summary = audit_chain::verify(*files, std::move(anchor));
  if (!summary) return tl::unexpected(about_files(summary.error()));
  const auto status = summary->problem ? ExitStatus::bad_input : ExitStatus::ok;
  if (session.json()) {
    session.out << json_of(*summary).dump(2, ' ', false, daemon::Json::error_handler_t::replace) << '\n';
    return status;
  }
  session.out << counted(summary->lines, "line") << " in " << counted(summary->files, "file");
  if (summary->lines > 0)
    session.out << ", " << summary->first_seq << " to " << summary->last.seq << "\nlast hash "
                << summary->last.seq << ":" << summary->last.hash;
  session.out << '\n';
  if (summary->gaps > 0)
    session.out << counted(summary->lost, "line") << " could not be written at the time, as "
                << counted(summary->gaps, "audit.gap line") << " say\n";
  if (summary->problem) {
    const auto& problem = *summary->problem;
    std::string where = problem.file;
    if (problem.line > 0) where += ":" + std::to_string(problem.line);
    return refuse(session, status,
                  (where.empty() ? "" : where + ": ") + std::string(audit_chain::to_string(problem.fault)) +
                      ": " + problem.what);
  }
  session.out << (summary->first_seq > 1 ? "intact from there on; older files were not looked at\n"
                                         : "intact\n");
  return ExitStatus::ok;
}

std::chrono::system_clock::time_point now() {
  return std::chrono::system_clock::now();
}

Result<std::chrono::system_clock::time_point> time_of(const std::string& text, const char* option) {
  const auto time = times::moment(text, std::chrono::floor<std::chrono::milliseconds>(now()));
  if (!time) return fail(time.error().kind, std::string(option) + ": " + time.error().message);
  return std::chrono::system_clock::time_point(time->time_since_epoch());
}

Result<audit_chain::Query> query_of(const AuditSearch& options) {
  audit_chain::Query query;
  query.event = options.event;
  for (const auto& field : options.fields) {
    const auto sign = field.find('=');
    if (sign == std::string::npos || sign == 0)
      return fail(Error::Kind::bad_input,
                  "--field \"" + terminal::harmless(field) + "\" must read NAME=VALUE");
    query.fields.emplace_back(field.substr(0, sign), field.substr(sign + 1));
  }
  if (!options.since.empty()) {
    const auto time = time_of(options.since, "--since");
    if (!time) return tl::unexpected(time.error());
    query.since = *time;
  }
  if (!options.until.empty()) {
    const auto time = time_of(options.until, "--until");
    if (!time) return tl::unexpected(time.error());
    query.until = *time;
  }
  if (query.since && query.until && *query.until < *query.since)
    return fail(Error::Kind::bad_input, "--until lies before --since");
  return query;
}

/// "12  2026-...Z  auth.failed  peer=... reason=...".
std::string text_of(std::string_view line) {
  const auto json = daemon::Json::parse(line, nullptr, false);
  if (!json.is_object()) return terminal::harmless(line);
  const auto plain = [](const daemon::Json& value) {
    return value.is_string() ? value.get<std::string>()
                             : value.dump(-1, ' ', false, daemon::Json::error_handler_t::replace);
  };
  std::string text;
  for (const char* key : {"seq", "time", "event"})
    text += (text.empty() ? "" : "  ") + (json.contains(key) ? plain(json[key]) : std::string("-"));
  std::string separator = "  ";
  for (const auto& [key, value] : json.items()) {
    if (key == "seq" || key == "time" || key == "event" || key == "prev" || key == "hash") continue;
    const auto said = plain(value);
    const bool quote = value.is_string() && (said.empty() || said.find_first_of(" =\"") != std::string::npos);
    text += separator + key + "=" + (quote ? daemon::Json(said).dump() : said);
    separator = " ";
  }
  return http::one_line(text, 16 * 1024);
}

Result<ExitStatus> run(const AuditSearch& options, Session& session) {
  const auto query = query_of(options);
  if (!query) return tl::unexpected(query.error());
  const auto files = files_of(options);
  if (!files) return tl::unexpected(files.error());
  std::size_t shown = 0;
  bool more = false;
  const auto done = audit_chain::search(*files, *query, [&](std::string_view line) {
    if (options.limit > 0 && shown == options.limit) {
      more = true;
      return false;
    }
    ++shown;
    if (session.json())
      session.out << line << '\n';
    else
      session.out << text_of(line) << '\n';
    return !session.stop.stop_requested() && static_cast<bool>(session.out);
  });
  if (!done) return tl::unexpected(about_files(done.error()));
  if (session.stop.stop_requested()) return ExitStatus::interrupted;
  say_shown(session, shown, more, "line");
  return ExitStatus::ok;
}

template <class Options>
void add_files(CLI::App& verb, Options& options) {
  auto* directory = verb.add_option("--directory", options.directory,
                                    "tunneld's audit directory; by default \"audit\" in its state directory")
                        ->type_name("DIR");
  verb.add_option("file", options.files, "files of it instead, oldest first")->excludes(directory);
}

}  // namespace

void add_audit(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("audit", "tunneld's audit log, from its files");
  group.require_subcommand(1);
  auto verify = std::make_shared<AuditVerify>();
  auto& verifying = add_verb(group, chosen, "verify", "Checks that no line is missing or was changed",
                             "  tunnelctl audit verify --directory /var/lib/tunneld/audit\n"
                             "  tunnelctl audit verify --directory audit --from 1200:$(cat anchor)",
                             verify);
  add_files(verifying, *verify);
  verifying
      .add_option("--from", verify->from,
                  "a number and hash noted earlier, elsewhere; that line must still be there, as it was")
      ->type_name("SEQ:HASH");
  auto search = std::make_shared<AuditSearch>();
  auto& searching = add_verb(group, chosen, "search", "Finds lines; --output json prints them as they are",
                             "  tunnelctl audit search --directory audit --event 'auth.*' --since 1h\n"
                             "  tunnelctl audit search --directory audit --field code=TUNNEL_014 --limit 20",
                             search);
  add_files(searching, *search);
  searching.add_option("--event", search->event, "only these; * stands for anything")->type_name("GLOB");
  searching.add_option("--field", search->fields, "only with this value; again for more, all must hold")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  searching.add_option("--since", search->since, "from then on: 1h, 2026-01-31, 2026-01-31T10:00:00Z")
      ->type_name("TIME");
  searching.add_option("--until", search->until, "until then")->type_name("TIME");
  add_limit(searching, search->limit);
}

}  // namespace tunnelctl
