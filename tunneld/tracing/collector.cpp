#include "tunneld/tracing/collector.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "common/http_access.h"
#include "common/http_url.h"
#include "common/log.h"
#include "common/secret_file.h"
#include "tunneld/tracing/otlp.h"

namespace tunneld::tracing {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxHeadersFile = 64 * 1024;
constexpr std::size_t kMaxAnswer = 64 * 1024;

bool is_token_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_control(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F;
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") + 1 - first);
}

/// Those that say how the request is framed, or what is in it.
bool is_ours(std::string_view name) {
  std::string small(name);
  for (char& c : small)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  for (const char* known : {"host", "content-type", "content-length", "content-encoding", "transfer-encoding",
                            "connection", "expect"}) {
    if (small == known) return true;
  }
  return false;
}

Result<http::Header> header_of(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return fail(Error::Kind::bad_input, "expected \"Name: value\"");
  const auto name = line.substr(0, colon);
  const auto value = trimmed(line.substr(colon + 1));
  if (name.empty() || !std::all_of(name.begin(), name.end(), is_token_character))
    return fail(Error::Kind::bad_input, "the header's name is malformed");
  if (is_ours(name)) return fail(Error::Kind::bad_input, "this header is set by tunneld itself");
  if (value.empty()) return fail(Error::Kind::bad_input, "the header has no value");
  if (std::any_of(value.begin(), value.end(), is_control))
    return fail(Error::Kind::bad_input, "the header's value contains a control character");
  return http::Header{std::string(name), std::string(value)};
}

Collector::Answer all_failed(std::uint64_t spans, std::string why) {
  return {spans, std::move(why)};
}

/// What an error's body says of it.
std::string explanation(const http::Response& answer) {
  const std::string text =
      answer.content_type.starts_with(kProtobuf) ? decode_status_message(answer.body) : answer.body;
  const std::string line = http::one_line(text, 300);
  return line.empty() ? "" : ": " + line;
}

}  // namespace

Result<std::vector<http::Header>> read_headers(const std::filesystem::path& path) {
  const auto content = read_secret_file(path.string(), kMaxHeadersFile);
  if (!content) return tl::unexpected(content.error());
  std::vector<http::Header> headers;
  std::string_view rest = content->reveal();
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const auto end = rest.find('\n');
    const auto line = trimmed(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    if (line.empty() || line.starts_with('#')) continue;
    auto header = header_of(line);
    if (!header)
      return fail(Error::Kind::bad_input,
                  path.string() + ":" + std::to_string(number) + ": " + header.error().message);
    headers.push_back(std::move(*header));
  }
  return headers;
}

Result<Collector> Collector::make(const Options& options, const std::string& version) {
  const auto bad_endpoint = [](const std::string& why) {
    return fail(Error::Kind::bad_input, "tracing.endpoint: " + why);
  };
  const auto url = http::parse_url(options.endpoint);
  if (!url) return bad_endpoint(url.error().message);
  const std::string_view location = std::string_view(options.endpoint).substr(0, options.endpoint.find('?'));
  const auto path = location.find('/', location.find("://") + 3);
  if (path == std::string_view::npos || path + 1 == location.size())
    return bad_endpoint("has no path; OTLP over HTTP takes traces at /v1/traces");
  std::vector<http::Header> headers;
  if (!options.headers_file.empty()) {
    auto read = read_headers(options.headers_file);
    if (!read)
      return tl::unexpected(Error{read.error().kind, "tracing.headers_file: " + read.error().message});
    headers = std::move(*read);
  }
  if (!headers.empty() && !url->tls && !http::is_loopback(url->host))
    return bad_endpoint("plain http would show tracing.headers_file to everybody on the way; use https");
  auto client = http::Client::make({.allow_plain = headers.empty(),
                                    .user_agent = "tunneld/" + version,
                                    .max_in_flight = 1,
                                    .deadline = 10s,  // OTLP's default
                                    .total = 30s,
                                    .max_body_bytes = kMaxAnswer,
                                    .retry = {.attempts = 5, .first_pause = 500ms, .longest_pause = 5s}});
  if (!client) return tl::unexpected(client.error());
  return Collector(options.endpoint, std::move(headers), std::move(*client));
}

Collector::Collector(std::string endpoint, std::vector<http::Header> headers, http::Client client)
    : endpoint_(std::move(endpoint)),
      shown_(http::shown_url(endpoint_)),
      headers_(std::move(headers)),
      client_(std::move(client)) {}

Collector::Answer Collector::send(std::string body, std::uint64_t spans, std::stop_token stop) const {
  const auto answer = client_.send({.method = "POST",
                                    .url = endpoint_,
                                    .body = std::move(body),
                                    .content_type = std::string(kProtobuf),
                                    .headers = headers_,
                                    // A span that comes twice has the same ids both times.
                                    .safe_to_repeat = true},
                                   std::move(stop));
  if (!answer) return all_failed(spans, answer.error().message);
  const std::string status = "the collector answered " + std::to_string(answer->status);
  if (answer->status < 200 || answer->status > 299) return all_failed(spans, status + explanation(*answer));
  // Some say "{}" in JSON whatever they were sent; that is their way of saying yes.
  if (!answer->content_type.starts_with(kProtobuf)) return {};
  const auto partial = decode_export_answer(answer->body);
  if (!partial) return all_failed(spans, status + ", but " + partial.error().message);
  if (partial->rejected == 0) {
    // Said of a request that was taken whole.
    if (!partial->message.empty())
      logging::debug("tracing", "the collector warns", {{"warning", http::one_line(partial->message, 300)}});
    return {};
  }
  return {std::min(partial->rejected, spans), "the collector rejected " + std::to_string(partial->rejected) +
                                                  " of " + std::to_string(spans) +
                                                  " spans: " + http::one_line(partial->message, 300)};
}

}  // namespace tunneld::tracing
