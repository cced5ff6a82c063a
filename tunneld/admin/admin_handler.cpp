#include "tunneld/admin/admin_handler.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tunneld/access/strict_json.h"

namespace tunneld::admin {

using tunnel::Code;
using tunnel::HttpExchange;
using tunnel::Refusal;
using tunnel::RequestHead;

namespace {

constexpr std::size_t kMaxInput = 4096;  // the only input is {"level","ttl"}
constexpr std::array<std::string_view, 5> kLevels{"ERROR", "WARN", "INFO", "DEBUG", "TRACE"};
constexpr std::int64_t kMaxTtlSeconds = 86'400;

std::string_view path_of(std::string_view target) {
  return target.substr(0, target.find('?'));
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// The q of one element of Accept, 1 when it has none, 0 when it is broken.
double quality(std::string_view parameters) {
  while (!parameters.empty()) {
    const auto end = parameters.find(';');
    const auto one = trimmed(parameters.substr(0, end));
    if (one.size() > 2 && (one[0] == 'q' || one[0] == 'Q') && one[1] == '=') {
      const double value = std::strtod(std::string(one.substr(2, 5)).c_str(), nullptr);
      return value >= 0 && value <= 1 ? value : 0;
    }
    if (end == std::string_view::npos) break;
    parameters.remove_prefix(end + 1);
  }
  return 1;
}

tunnel::asio::awaitable<Result<std::string>> read_input(HttpExchange& exchange) {
  std::string text;
  std::array<std::byte, 1024> buffer{};
  for (;;) {
    auto got = co_await exchange.read_body(buffer);
    if (!got) co_return tl::unexpected(got.error());
    if (*got == 0) co_return text;
    if (text.size() + *got > kMaxInput)
      co_return fail(Error::Kind::bad_input, "body is larger than " + std::to_string(kMaxInput) + " bytes");
    text.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
}

struct LogLevelInput {
  std::string level;
  std::optional<std::chrono::seconds> ttl;
};

/// Checks every field before it says what is wrong, so that one answer names all of it.
tl::expected<LogLevelInput, std::vector<std::string>> read_log_level(std::string_view text) {
  auto json = access::parse_strict_json(text, kMaxInput);
  if (!json) return tl::unexpected(std::vector{json.error().message});
  if (!json->is_object()) return tl::unexpected(std::vector<std::string>{"body: an object is wanted"});
  std::vector<std::string> problems;
  LogLevelInput input;
  for (const auto& [key, value] : json->items()) {
    if (key == "level") {
      const bool known = value.is_string() && std::find(kLevels.begin(), kLevels.end(),
                                                        value.get_ref<const std::string&>()) != kLevels.end();
      if (known)
        input.level = value;
      else
        problems.emplace_back("level: one of ERROR WARN INFO DEBUG TRACE is wanted");
    } else if (key == "ttl") {
      const bool whole = value.is_number_integer() && value >= 1 && value <= kMaxTtlSeconds;
      if (whole)
        input.ttl = std::chrono::seconds(value.get<std::int64_t>());
      else
        problems.emplace_back("ttl: a whole number of seconds from 1 to 86400 is wanted");
    } else {
      problems.push_back(key.substr(0, 64) + ": unknown field");
    }
  }
  if (!json->contains("level")) problems.emplace_back("level: missing");
  if (!problems.empty()) return tl::unexpected(std::move(problems));
  return input;
}

}  // namespace

bool wants_openmetrics(const RequestHead& head) {
  double open = 0;
  double plain = 0;
  for (const auto& field : head.fields) {
    if (!tunnel::same_name(field.name, "accept")) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      const auto element = rest.substr(0, comma);
      const auto semicolon = element.find(';');
      const auto type = trimmed(element.substr(0, semicolon));
      const double q = quality(semicolon == std::string_view::npos ? "" : element.substr(semicolon + 1));
      if (tunnel::same_name(type, "application/openmetrics-text")) open = std::max(open, q);
      if (tunnel::same_name(type, "text/plain")) plain = std::max(plain, q);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return open > 0 && open >= plain;
}

struct AdminHandler::Page {
  std::string_view path;
  bool needs_scope;
  bool takes_put;
};

const AdminHandler::Page* AdminHandler::find(std::string_view path) {
  static constexpr std::array<Page, 8> kPages{{
      {"/metrics", false, false},
      {"/api/tunnel/metrics", false, false},
      {"/healthz", false, false},
      {"/readyz", false, false},
      {"/api/tunnel/health", false, false},
      {"/api/tunnel/connections", true, false},
      {"/api/tunnel/diagnostics", true, false},
      {"/api/tunnel/config/log-level", true, true},
  }};
  const auto found =
      std::find_if(kPages.begin(), kPages.end(), [path](const Page& page) { return page.path == path; });
  return found == kPages.end() ? nullptr : &*found;
}

AdminHandler::AdminHandler(Sources sources) : sources_(std::move(sources)) {}
AdminHandler::~AdminHandler() = default;

tunnel::asio::awaitable<void> AdminHandler::handle(HttpExchange& exchange) {
  // Scrapers and probes carry no token: the listener is loopback only and counts them as known.
  exchange.authenticated(access::Tier::free);
  auto made = co_await answer(exchange);
  co_await send(exchange, std::move(made));
}

tunnel::asio::awaitable<Answer> AdminHandler::answer(HttpExchange& exchange) {
  const auto& head = exchange.request();
  const auto path = path_of(head.target);
  const auto* page = find(path);
  if (page == nullptr) co_return refusal(exchange, {Code::bad_request, "no such page", {}, 404});
  const bool reads = head.method == "GET" || head.method == "HEAD";
  if (!reads && !(page->takes_put && head.method == "PUT")) {
    auto made = refusal(exchange, {Code::bad_request, "method not allowed here", {}, 405});
    made.fields.push_back({"Allow", page->takes_put ? "GET, HEAD, PUT" : "GET, HEAD"});
    co_return made;
  }
  if (page->needs_scope)
    if (auto denied = check_scope(head)) co_return refusal(exchange, *denied);

  if (path == "/metrics") co_return exposition(head, false);
  if (path == "/api/tunnel/metrics") co_return exposition(head, sources_.compat_metrics);
  if (path == "/api/tunnel/connections") co_return Answer{.body = sources_.connections().dump()};
  if (path == "/api/tunnel/diagnostics") co_return Answer{.body = sources_.diagnostics().dump()};
  if (page->takes_put && head.method == "PUT") co_return co_await put_log_level(exchange);
  if (page->takes_put) co_return Answer{.body = nlohmann::json{{"level", sources_.log_level()}}.dump()};
  co_return health_page(path);
}

std::optional<Refusal> AdminHandler::check_scope(const RequestHead& head) const {
  auto principal = sources_.authenticate(head);
  if (!principal) return principal.error();
  if (!principal->has_scope("tunnel:admin"))
    return Refusal{Code::forbidden, "the token lacks the scope tunnel:admin"};
  return std::nullopt;
}

Answer AdminHandler::refusal(const HttpExchange& exchange, const Refusal& why) const {
  sources_.refused(why.code);
  return answer_refusing(exchange, why);
}

Answer AdminHandler::exposition(const RequestHead& head, bool compat) const {
  const bool open = wants_openmetrics(head);
  return {.content_type = open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                               : "text/plain; version=0.0.4; charset=utf-8",
          .body = sources_.metrics(open, compat)};
}

Answer AdminHandler::health_page(std::string_view path) const {
  // Alive means: this thread answered. Nothing else may turn it into a restart.
  if (path == "/healthz") return {.body = R"({"status":"alive"})"};
  const auto health = sources_.health();
  const unsigned status = health.not_ready ? 503 : 200;
  if (path == "/readyz") {
    nlohmann::json body{{"status", health.not_ready ? "not ready" : "ready"}};
    if (health.not_ready) body["reason"] = *health.not_ready;
    return {.status = status, .body = body.dump()};
  }
  return {.status = status, .body = health_body(health, sources_.counts())};
}

tunnel::asio::awaitable<Answer> AdminHandler::put_log_level(HttpExchange& exchange) {
  auto text = co_await read_input(exchange);
  std::vector<std::string> problems;
  if (!text) {
    problems.push_back(text.error().message);
  } else if (auto input = read_log_level(*text); !input) {
    problems = input.error();
  } else {
    sources_.set_log_level(input->level, input->ttl);
    nlohmann::json body{{"level", input->level}};
    if (input->ttl) body["ttl"] = input->ttl->count();
    co_return Answer{.body = body.dump()};
  }
  auto made = refusal(exchange, {Code::bad_request, "log level not changed: " + problems.front()});
  auto body = nlohmann::ordered_json::parse(made.body);
  body["error"]["details"] = problems;
  made.body = body.dump();
  co_return made;
}

}  // namespace tunneld::admin
