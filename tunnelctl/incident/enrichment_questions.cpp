#include <algorithm>
#include <array>
#include <string_view>

#include "tunnelctl/incident/enrichment_parts.h"
#include "tunnelctl/logql/parser.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::incident {
namespace {

/// Of tunneld's log what somebody should see: warnings and errors, and whatever was refused. As a filter of
/// lines it needs no parser, so that a busy Loki answers in time.
constexpr const char* kErrorLines =
    "${streams} |~ `\"(level\": ?\"(?:ERROR|FATAL|CRITICAL|WARN|error|fatal|critical|warn)|code\": "
    "?\"TUNNEL_|"
    "why\": ?\")`";

constexpr std::array<std::string_view, 5> kUnits{"", "percent", "seconds", "bytes", "per second"};
constexpr std::array<std::string_view, 8> kKinds{"breaker", "upstream", "agent", "daemon",
                                                 "audit",   "overload", "alert", "manual"};

template <std::size_t N>
std::string list_of(const std::array<std::string_view, N>& words) {
  std::string text;
  for (const auto word : words)
    if (!word.empty()) text += (text.empty() ? "" : ", ") + std::string(word);
  return text;
}

std::string escaped(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    if (c == '\n')
      text += "\\n";
    else
      text += c;
  }
  return text;
}

/// Calls `value(name, quoted)` for each ${name}; `quoted`: it stands in double quotes.
template <class Value>
Result<std::string> replaced(std::string_view expr, const Value& value) {
  std::string result;
  char quote = 0;
  for (std::size_t i = 0; i < expr.size(); ++i) {
    const char c = expr[i];
    const auto end =
        c == '$' && expr.substr(i + 1).starts_with('{') ? expr.find('}', i) : std::string_view::npos;
    if (end != std::string_view::npos) {
      auto text = value(expr.substr(i + 2, end - i - 2), quote == '"');
      if (!text) return text;
      result += *text;
      i = end;
      continue;
    }
    if (quote != 0 && quote != '`' && c == '\\' && i + 1 < expr.size()) {
      result += c;
      result += expr[++i];
      continue;
    }
    if (quote == 0 && (c == '"' || c == '\'' || c == '`'))
      quote = c;
    else if (quote == c)
      quote = 0;
    result += c;
  }
  return result;
}

bool of_logs(const Question& question) {
  return question.kind == Question::Kind::logs || question.kind == Question::Kind::patterns;
}

/// What is wrong with its expr.
Result<void> check_expr(const Question& question) {
  const auto sample = replaced(question.expr, [](std::string_view name, bool quoted) -> Result<std::string> {
    if (name == "window") return std::string("30m");
    if (name == "streams") return std::string("{job=\"tunneld\"}");
    if (!quoted)
      return fail(Error::Kind::bad_input,
                  "${" + std::string(name) + "} must stand in double quotes, as a label's value");
    return std::string("x");
  });
  if (!sample) return tl::unexpected(sample.error());
  if (!of_logs(question)) {
    const auto ast = promql::parse(*sample);
    if (!ast) return fail(Error::Kind::bad_input, "is no PromQL: " + ast.error().message);
    return {};
  }
  const auto query = logql::parse(*sample);
  if (!query) return fail(Error::Kind::bad_input, "is no LogQL: " + query.error().message);
  if (query->kind != logql::LogQuery::Kind::log)
    return fail(Error::Kind::bad_input, "gives numbers; of kind logs and patterns it must give lines");
  return {};
}

}  // namespace

std::vector<Question> default_questions() {
  using Kind = Question::Kind;
  const auto metric = [](const char* name, const char* expr, const char* unit,
                         std::vector<std::string> kinds = {}) {
    return Question{
        .kind = Kind::metric, .name = name, .expr = expr, .unit = unit, .kinds = std::move(kinds)};
  };
  const auto table = [](const char* name, const char* expr, std::vector<std::string> kinds = {}) {
    return Question{.kind = Kind::table, .name = name, .expr = expr, .unit = "", .kinds = std::move(kinds)};
  };
  // Two minutes: the shortest in which a lost scrape still leaves a rate. Longer ones dilute what just began.
  return {
      metric("Error rate",
             "(sum(rate(tunnel_requests_total{status=\"error\"}[2m])) or vector(0))"
             " / sum(rate(tunnel_requests_total[2m]))",
             "percent"),
      metric("Requests", "sum(rate(tunnel_requests_total[2m]))", "per second"),
      metric("Errors answered, refusals included", "sum(rate(tunnel_errors_total[2m]))", "per second"),
      metric("Refused by open breakers",
             "sum(rate(tunnel_errors_total{code=\"TUNNEL_014\"}[2m])) or vector(0)", "per second",
             {"breaker", "upstream"}),
      metric("p95 latency",
             "histogram_quantile(0.95, sum by (le) (rate(tunnel_request_duration_seconds_bucket[2m])))",
             "seconds"),
      metric("Waiting in queues", "sum(tunnel_queue_size)", "", {"breaker", "upstream", "overload", "alert"}),
      metric("Fullest queue", "max(tunnel_queue_fill_ratio)", "percent", {"overload", "alert"}),
      metric("Open connections", "sum(tunnel_sockets)", ""),
      metric("Of the connections that may be open", "max(tunnel_sockets / tunnel_sockets_limit)", "percent",
             {"overload", "alert"}),
      metric("Users with something open", "sum(tunnel_active_users)", ""),
      metric("Breakers that are not closed", "sum(tunnel_circuit_breakers{state!=\"closed\"})", "",
             {"breaker", "upstream", "alert", "manual"}),
      metric("Agents connected", "sum(tunnel_agents)", "",
             {"agent", "upstream", "daemon", "alert", "manual"}),
      metric("Daemons that answer Prometheus", "sum(up{job=\"tunneld\"})", "", {"daemon", "alert", "manual"}),
      metric("The youngest daemon runs for", "time() - max(process_start_time_seconds{job=\"tunneld\"})",
             "seconds", {"daemon", "alert", "manual"}),
      metric("Records that the audit log lost", "sum(increase(tunnel_audit_write_errors_total[${window}]))",
             "", {"audit"}),
      metric("Log records that were lost", "sum(increase(tunnel_log_dropped_total[${window}]))", "",
             {"audit"}),
      table("Errors by code", "sum by (code, category) (increase(tunnel_errors_total[${window}])) > 0",
            {"breaker", "upstream", "agent", "daemon", "overload", "alert", "manual"}),
      table("Breakers by service (1 open, 2 half-open)",
            "max by (service) (tunnel_circuit_breaker_state) > 0",
            {"breaker", "upstream", "alert", "manual"}),
      table("SSH errors", "sum by (phase, reason) (increase(tunnel_ssh_errors_total[${window}])) > 0",
            {"breaker", "upstream", "agent"}),
      table("Agents' connections",
            "sum by (result) (increase(tunnel_connections_total{role=\"agent\"}[${window}])) > 0",
            {"agent", "upstream"}),
      table("Closed WebSockets",
            "sum by (code, initiator) (increase(tunnel_websocket_disconnections_total[${window}])) > 0",
            {"agent", "daemon"}),
      table("Refused for a limit",
            "sum by (scope, user_tier) (increase(tunnel_rate_limit_violations_total[${window}])) > 0",
            {"overload", "alert"}),
      table("Lost in queues",
            "sum by (reason, priority) (increase(tunnel_queue_dropped_total[${window}])) > 0",
            {"overload", "alert"}),
      table("Connections refused unread",
            "sum by (reason) (increase(tunnel_sockets_refused_total[${window}])) > 0", {"overload", "alert"}),
      {.kind = Kind::patterns,
       .name = "Patterns of error lines",
       .expr = kErrorLines,
       .unit = "",
       .kinds = {}},
      {.kind = Kind::logs, .name = "Newest error lines", .expr = kErrorLines, .unit = "", .kinds = {}},
  };
}

Result<void> check_questions(const std::vector<Question>& questions, const std::string& setting) {
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const auto& question = questions[i];
    const auto wrong = [&](const char* member, const std::string& what) {
      return fail(Error::Kind::bad_input, setting + "[" + std::to_string(i) + "]." + member + ": " + what);
    };
    if (question.name.find_first_not_of(' ') == std::string::npos) return wrong("name", "is missing");
    if (question.expr.find_first_not_of(" \n") == std::string::npos) return wrong("expr", "is missing");
    if (std::find(kUnits.begin(), kUnits.end(), question.unit) == kUnits.end())
      return wrong("unit", "\"" + question.unit + "\" is none; allowed: " + list_of(kUnits) + ", or nothing");
    for (const auto& kind : question.kinds)
      if (std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end())
        return wrong("kinds", "\"" + kind + "\" is none; allowed: " + list_of(kKinds));
    if (auto good = check_expr(question); !good) return wrong("expr", good.error().message);
  }
  return {};
}

Result<std::string> expanded(const Question& question, const Subject& subject,
                             const EnrichmentOptions& options) {
  return replaced(question.expr, [&](std::string_view name, bool) -> Result<std::string> {
    if (name == "window") return times::duration_text(options.window);
    if (name == "streams") return options.streams;
    for (const auto& label : subject.labels)
      if (label.key == name) return escaped(label.value);
    return fail(Error::Kind::bad_input, "the incident has no label " + std::string(name));
  });
}

std::string label_value(const Subject& subject, std::string_view key) {
  for (const auto& label : subject.labels)
    if (label.key == key) return label.value;
  return "";
}

}  // namespace tunnelctl::incident
