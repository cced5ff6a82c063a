#include "tunneld/admin/admin_handler.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/strict_json.h"
#include "tunneld/admin/input.h"

namespace tunneld::admin {

using tunnel::Code;
using tunnel::HttpExchange;
using tunnel::Refusal;
using tunnel::RequestHead;

namespace {

constexpr std::size_t kMaxBody = 64 * 1024;

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

constexpr std::size_t kMaxId = 128;
constexpr std::string_view kScope = "tunnel:admin";

/// Whether a list as in Allow has the word.
bool lists(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const auto end = std::min(words.find(", "), words.size());
    if (words.substr(0, end) == word) return true;
    words.remove_prefix(std::min(end + 2, words.size()));
  }
  return false;
}

/// The body as JSON; null when there is none.
tunnel::asio::awaitable<tunnel::Served<nlohmann::json>> read_body(HttpExchange& exchange) {
  std::string text;
  std::array<std::byte, 4096> buffer{};
  for (;;) {
    auto got = co_await exchange.read_body(buffer);
    if (!got) co_return tunnel::refuse(Code::bad_request, "body: " + got.error().message);
    if (*got == 0) break;
    if (text.size() + *got > kMaxBody)
      co_return tunnel::refuse(Code::too_large, "body: larger than " + std::to_string(kMaxBody) + " bytes");
    text.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
  if (text.empty()) co_return nlohmann::json(nullptr);
  auto json = parse_strict_json(text, kMaxBody);
  if (!json) co_return tunnel::refuse(Code::bad_request, "body: " + json.error().message);
  co_return std::move(*json);
}

}  // namespace

double accept_weight(const RequestHead& head, std::string_view wanted) {
  double best = 0;
  for (const auto& field : head.fields) {
    if (!tunnel::same_name(field.name, "accept")) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      const auto element = rest.substr(0, comma);
      const auto semicolon = element.find(';');
      const double q = quality(semicolon == std::string_view::npos ? "" : element.substr(semicolon + 1));
      if (tunnel::same_name(trimmed(element.substr(0, semicolon)), wanted)) best = std::max(best, q);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return best;
}

bool wants_openmetrics(const RequestHead& head) {
  const double open = accept_weight(head, "application/openmetrics-text");
  return open > 0 && open >= accept_weight(head, "text/plain");
}

const AdminHandler::Page* AdminHandler::find(std::string_view path, std::string& id) {
  using H = AdminHandler;
  // tests/artifacts/test_api_pages.py holds this table against docs/api.
  static constexpr std::array kPages{
      Page{"/metrics", false, "GET, HEAD", &H::metrics_page, nullptr},
      Page{"/api/tunnel/metrics", false, "GET, HEAD", &H::metrics_page, nullptr},
      Page{"/healthz", false, "GET, HEAD", &H::health_page, nullptr},
      Page{"/readyz", false, "GET, HEAD", &H::health_page, nullptr},
      Page{"/api/tunnel/health", false, "GET, HEAD", &H::health_page, nullptr},
      Page{"/api/tunnel/diagnostics", true, "GET, HEAD", &H::diagnostics_page, nullptr},
      Page{"/api/tunnel/config", true, "GET, HEAD, PUT", &H::config_page, &H::put_config},
      Page{"/api/tunnel/config/reset", true, "POST", nullptr, &H::reset_config},
      Page{"/api/tunnel/config/log-level", true, "GET, HEAD, PUT", &H::log_level_page, &H::put_log_level},
      Page{"/api/tunnel/metrics/json", true, "GET, HEAD", &H::numbers_page, nullptr},
      Page{"/api/tunnel/metrics/history", true, "GET, HEAD", &H::history_page, nullptr},
      Page{"/api/tunnel/metrics/users", true, "GET, HEAD", &H::users_page, nullptr},
      Page{"/api/tunnel/metrics/user/{hash}", true, "GET, HEAD", &H::user_page, nullptr},
      Page{"/api/tunnel/circuit-breakers", true, "GET, HEAD", &H::breakers_page, nullptr},
      Page{"/api/tunnel/circuit-breakers/{id}/reset", true, "POST", nullptr, &H::reset_breaker},
      Page{"/api/tunnel/connections", true, "GET, HEAD", &H::connections_page, nullptr},
      Page{"/api/tunnel/agents", true, "GET, HEAD", &H::agents_page, nullptr},
      Page{"/api/tunnel/agents/forget", true, "POST", nullptr, &H::forget_agent},
      Page{"/api/tunnel/connections/{id}", true, "DELETE", nullptr, &H::close_connection},
      Page{"/api/tunnel/drain", true, "POST", nullptr, &H::drain},
      Page{"/api/tunnel/events", true, "GET, HEAD", &H::events_page, nullptr},
      Page{"/api/tunnel/revocations", true, "GET, HEAD, POST", &H::revocations_page, &H::revoke},
      Page{"/api/tunnel/penalties/{address}", true, "DELETE", nullptr, &H::pardon},
  };
  for (const auto& page : kPages) {
    const auto open = page.path.find('{');
    if (open == std::string_view::npos) {
      if (page.path == path) return &page;
      continue;
    }
    const auto before = page.path.substr(0, open);
    const auto after = page.path.substr(page.path.find('}') + 1);
    if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after))
      continue;
    const auto part = path.substr(before.size(), path.size() - before.size() - after.size());
    if (part.size() > kMaxId || part.find('/') != std::string_view::npos) continue;
    if (auto plain = unescaped(part)) {
      id = std::move(*plain);
      return &page;
    }
  }
  return nullptr;
}

AdminHandler::AdminHandler(Sources sources) : sources_(std::move(sources)) {}
AdminHandler::~AdminHandler() = default;

void AdminHandler::end_streams() {
  streams_.end();
}

tunnel::asio::awaitable<void> AdminHandler::handle(HttpExchange& exchange) {
  // Scrapers and probes carry no token: the listener is loopback only and counts them as known.
  exchange.authenticated(tunnel::Tier::free);
  Call call(exchange);
  auto made = co_await answer(call);
  report(call, made.status);
  if (!call.streams_after) {
    co_await send(exchange, std::move(made));
    co_return;
  }
  co_await streams_.serve(exchange, sources_.events, *call.streams_after);
}

void AdminHandler::report(const Call& call, unsigned status) const {
  if (call.page == nullptr || !call.page->needs_scope) return;
  const auto& head = call.exchange.request();
  AdminCall told;
  told.method = head.method;
  told.page = call.page->path;
  told.status = status;
  told.refused = call.refused;
  told.principal = call.principal ? &*call.principal : nullptr;
  told.peer = call.exchange.peer_address();
  told.correlation_id = call.exchange.correlation_id();
  told.notable = status == 401 || status == 403 || !call.reads();
  sources_.called(told);
}

tunnel::asio::awaitable<Answer> AdminHandler::answer(Call& call) {
  const auto& head = call.exchange.request();
  call.page = find(path_of(head.target), call.id);
  if (call.page == nullptr) co_return refusal(call, {Code::bad_request, "no such page", {}, 404});
  if (!lists(call.page->methods, head.method)) {
    auto made = refusal(call, {Code::bad_request, "method not allowed here", {}, 405});
    made.fields.push_back({"Allow", std::string(call.page->methods)});
    co_return made;
  }
  if (call.page->needs_scope)
    if (auto denied = check_scope(call)) co_return refusal(call, *denied);
  if (call.reads()) co_return (this->*call.page->read)(call);

  auto body = co_await read_body(call.exchange);
  if (!body) co_return refusal(call, body.error(), {body.error().message});
  // From here on nothing waits, so that no other call comes between.
  if (call.principal) sources_.acting(*call.principal);
  co_return (this->*call.page->change)(call, *body);
}

std::optional<Refusal> AdminHandler::check_scope(Call& call) const {
  auto principal = sources_.authenticate(call.exchange.request());
  if (!principal) return principal.error();
  call.principal = std::move(*principal);
  if (!call.principal->has_scope(std::string(kScope)))
    return Refusal{Code::forbidden, "the token lacks the scope tunnel:admin"};
  return std::nullopt;
}

Answer AdminHandler::refusal(Call& call, const Refusal& why, const Problems& details) const {
  sources_.refused(why.code);
  call.refused = why.code;
  auto made = answer_refusing(call.exchange, why);
  if (details.empty()) return made;
  auto body = nlohmann::ordered_json::parse(made.body);
  body["error"]["details"] = details;
  made.body = text_of(body);
  return made;
}

}  // namespace tunneld::admin
