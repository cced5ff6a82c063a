#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "common/http_client.h"
#include "common/http_url.h"
#include "common/result.h"
#include "tunnelctl/incident/incident.h"

/// What the backends of other services share: calls with JSON, refusals in words, marks in their texts.
namespace tunnelctl::incident {

struct RemoteOptions {
  std::string service{};  // for messages: "PagerDuty"
  std::string url{};      // what paths are added to
  std::string setting{};  // what names it, for messages: "incident.webhook.url"
  std::vector<http::Header> headers{};
  http::TlsFiles tls{};
  bool allow_plain = false;
  std::chrono::milliseconds timeout{10'000};  // of one attempt
  std::stop_token stop{};
};

struct RemoteCall {
  std::string method = "GET";
  std::string path{};  // escaped, with its query; empty: the URL as it is
  Json body = nullptr;
  bool repeatable = false;  // what is sent twice happens once
  std::vector<http::Header> headers{};
  std::string text{};  // instead of `body`, sent as it is
};

struct RemoteAnswer {
  http::Response response{};
  Json json = nullptr;  // null when the body is no JSON
  unsigned status() const { return response.status; }
  bool ok() const { return response.status >= 200 && response.status < 300; }
};

class Remote {
 public:
  static Result<Remote> make(RemoteOptions options);

  /// Any status is an answer. Answers over 8 MiB are refused. A server that asks for a pause of more than 5 s
  /// (Retry-After) is believed at once: whoever called may try again later.
  Result<RemoteAnswer> call(const RemoteCall& call) const;
  /// A success with JSON; else error(), or unavailable when the answer is no JSON.
  Result<Json> json(const RemoteCall& call) const;
  /// What a refusal means, in the server's words. Kinds: denied (401, 403), not_found (404, 410), unavailable
  /// (408, 425, 429, 5xx), else bad_input.
  Error error(const RemoteCall& call, const RemoteAnswer& answer) const;
  const std::string& url() const { return options_.url; }

 private:
  Remote(RemoteOptions options, http::Client client)
      : options_(std::move(options)), client_(std::move(client)) {}
  std::string address(const RemoteCall& call) const;

  RemoteOptions options_;
  http::Client client_;
};

/// For segments of paths and values of queries.
inline constexpr auto& escape = http::percent_encode;

/// "<!-- name: {...} -->": facts that stay with a text without being shown.
std::string mark(std::string_view name, const Json& facts);
/// Those of the first mark of that name; null when there is none. `text` is what is left without it.
struct Marked {
  Json facts = nullptr;
  std::string text{};
};
Marked unmarked(std::string_view text, std::string_view name);

/// At most `bytes`, whole characters, with " [...]" at the end of what was cut.
std::string cut(std::string_view text, std::size_t bytes);
/// The text itself when it fits, else its beginning and a hash: still one text for one key.
std::string short_key(std::string_view key, std::size_t bytes);
/// As services write times; nullopt when there is none.
std::optional<Time> moment_of(std::string_view text);
/// Why one is not opened again: bad_input.
Error open_already(const Incident& resolved, const Incident& open);
/// "- [caption](url)" for each.
std::string link_list(const std::vector<Attachment>& attachments);

}  // namespace tunnelctl::incident
