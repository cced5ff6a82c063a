#include "tunnelctl/incident/remote.h"

#include <algorithm>

#include "common/http_access.h"
#include "common/json_text.h"
#include "common/sha256.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/incident/markdown.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl::incident {
namespace {

using grafana::member;
using grafana::text_of;

/// GitHub lists objects or texts under "errors", PagerDuty texts, below "error" in its REST API.
std::string words_of(const Json& json) {
  if (!json.is_object()) return {};
  if (member(json, "error").is_object()) return words_of(json["error"]);
  std::string words = text_of(json, "message");
  if (words.empty()) words = text_of(json, "error");
  const auto& errors = member(json, "errors");
  if (!errors.is_array()) return words;
  for (const auto& one : errors) {
    std::string said = one.is_string() ? one.get<std::string>() : text_of(one, "message");
    if (said.empty()) said = text_of(one, "field") + " " + text_of(one, "code");
    words += (words.empty() ? "" : "; ") + said;
  }
  return words;
}

/// GitHub refuses with 403 also when there were too many requests.
bool is_limit(const http::Response& response) {
  const auto* left = response.header("x-ratelimit-remaining");
  return response.status == 403 &&
         ((left != nullptr && *left == "0") || response.header("retry-after") != nullptr ||
          response.body.find("rate limit") != std::string::npos);
}

}  // namespace

Result<Remote> Remote::make(RemoteOptions options) {
  const auto url = http::parse_url(options.url);
  if (!url) return fail(Error::Kind::bad_input, options.setting + ": " + url.error().message);
  if (!url->tls && !options.allow_plain && !http::is_loopback(url->host))
    return fail(Error::Kind::bad_input, options.setting + ": " + http::shown_url(options.url) +
                                            ": would send the credentials unprotected; use https, or say "
                                            "--allow-plain-http where the network itself protects the way");
  http::ClientOptions client_options;
  client_options.tls = options.tls;
  client_options.allow_plain = options.allow_plain;
  client_options.user_agent = "tunnelctl";
  client_options.deadline = options.timeout;
  client_options.total = 3 * options.timeout;
  client_options.max_body_bytes = 8 * 1024 * 1024;
  client_options.retry = {.attempts = 3,
                          .longest_pause = std::chrono::seconds(2),
                          .longest_retry_after = std::chrono::seconds(5)};
  auto client = http::Client::make(std::move(client_options));
  if (!client) return tl::unexpected(client.error());
  return Remote(std::move(options), std::move(*client));
}

std::string Remote::address(const RemoteCall& call) const {
  // A whole address ends as it was given: to some receivers a slash makes another.
  if (call.path.empty()) return options_.url;
  return options_.url.substr(0, options_.url.find_last_not_of('/') + 1) + call.path;
}

Result<RemoteAnswer> Remote::call(const RemoteCall& call) const {
  http::Request request;
  request.method = call.method;
  request.url = address(call);
  request.headers = options_.headers;
  request.headers.insert(request.headers.end(), call.headers.begin(), call.headers.end());
  if (!call.text.empty() || !call.body.is_null()) {
    request.content_type = "application/json";
    request.body =
        call.text.empty() ? call.body.dump(-1, ' ', false, Json::error_handler_t::replace) : call.text;
  }
  request.safe_to_repeat = call.method == "GET" || call.repeatable;
  auto response = client_.send(request, options_.stop);
  if (!response) {
    Error error = std::move(response.error());
    error.message = options_.service + ": " + error.message;
    // A host that is not found may be a network that is away; "not found" is said of incidents.
    if (error.kind == Error::Kind::not_found) error.kind = Error::Kind::unavailable;
    return tl::unexpected(std::move(error));
  }
  RemoteAnswer answer;
  answer.response = std::move(*response);
  if (!answer.response.body.empty()) {
    answer.json = parse_json(answer.response.body);
    if (answer.json.is_discarded()) answer.json = nullptr;
  }
  return answer;
}

Result<Json> Remote::json(const RemoteCall& asked) const {
  auto answer = call(asked);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok() || answer->json.is_null()) return tl::unexpected(error(asked, *answer));
  return std::move(answer->json);
}

Error Remote::error(const RemoteCall& call, const RemoteAnswer& answer) const {
  using Kind = Error::Kind;
  const auto& response = answer.response;
  std::string text = options_.service + ": " + call.method + " " + http::shown_url(address(call)) + ": " +
                     std::to_string(response.status);
  const bool page = response.content_type.find("html") != std::string::npos;
  if (page)
    text += ": the answer is a web page; look at " + options_.setting;
  else if (const auto words = http::one_line(answer.json.is_null() ? response.body : words_of(answer.json));
           !words.empty())
    text += ": " + words;
  if (answer.ok())
    return {Kind::unavailable, page ? text : text + ": the answer is not what this service sends"};
  if (is_limit(response)) return {Kind::unavailable, text};
  switch (response.status) {
    case 401:
    case 403: return {Kind::denied, text + "; look at the token and what it may do"};
    case 404:
    case 410: return {Kind::not_found, text};
    case 408:
    case 425:
    case 429: return {Kind::unavailable, text};
    default: break;
  }
  if (response.status >= 500) return {Kind::unavailable, text};
  if (response.status >= 300 && response.status < 400)
    text += "; it points elsewhere, and is not followed: look at " + options_.setting;
  return {Kind::bad_input, text};
}

std::string mark(std::string_view name, const Json& facts) {
  // Within JSON both stand in texts only. "--" would end the comment.
  std::string json;
  for (const char c : facts.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '-' && json.ends_with('-'))
      json += "\\u002d";
    else if (c == '>')
      json += "\\u003e";
    else
      json += c;
  }
  return "<!-- " + std::string(name) + ": " + json + " -->";
}

Marked unmarked(std::string_view text, std::string_view name) {
  const std::string begin = "<!-- " + std::string(name) + ": ";
  Marked marked{.text = std::string(text)};
  const auto from = text.find(begin);
  if (from == std::string_view::npos) return marked;
  const auto to = text.find(" -->", from);
  if (to == std::string_view::npos) return marked;
  const auto inside = text.substr(from + begin.size(), to - from - begin.size());
  auto facts = parse_json(inside);
  if (!facts.is_object()) return marked;
  marked.facts = std::move(facts);
  auto rest = to + 4;
  while (rest < text.size() && (text[rest] == '\n' || text[rest] == '\r')) ++rest;
  marked.text = std::string(text.substr(0, from)) + std::string(text.substr(rest));
  return marked;
}

std::string cut(std::string_view text, std::size_t bytes) {
  constexpr std::string_view kEnd = " [...]";
  if (text.size() <= bytes) return std::string(text);
  std::size_t end = bytes < kEnd.size() ? 0 : bytes - kEnd.size();
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return std::string(text.substr(0, end)) + std::string(kEnd);
}

std::string short_key(std::string_view key, std::size_t bytes) {
  if (key.size() <= bytes) return std::string(key);
  const auto hash = to_hex(sha256(key)).substr(0, 32);
  std::size_t end = bytes - hash.size() - 1;
  while (end > 0 && (static_cast<unsigned char>(key[end]) & 0xC0U) == 0x80U) --end;
  return std::string(key.substr(0, end)) + "-" + hash;
}

std::optional<Time> moment_of(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const auto time = times::moment(text, Time{});
  return time ? std::optional(*time) : std::nullopt;
}

Error open_already(const Incident& resolved, const Incident& open) {
  return {Error::Kind::bad_input, terminal::harmless(resolved.id + " cannot be opened again: " + open.id +
                                                     " is open with the same key, " + resolved.dedup_key)};
}

std::string link_list(const std::vector<Attachment>& attachments) {
  std::string list;
  for (const auto& one : attachments)
    list += "- " + markdown::link(one.caption.empty() ? one.url : one.caption, one.url) + "\n";
  return list;
}

}  // namespace tunnelctl::incident
