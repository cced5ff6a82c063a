#include "tunnel/refusal.h"

#include <array>
#include <cstddef>

namespace tunnel {
namespace {

/// In the order of the enumerators. Close codes: 1008 policy, 1009 too big, 1011 internal, 1013 try
/// later, 4401 token, 4403 forbidden, 4408 timeout, 4429 too many.
constexpr CodeFacts kFacts[] = {
    {Code::unreachable, "TUNNEL_001", "network", 503, 1013, "The service cannot be reached at the moment.",
     "Check that the machine behind the tunnel is on and its SSH server is listening, then try again."},
    {Code::token_invalid, "TUNNEL_002", "authentication", 401, 4401,
     "You are not signed in, or the access token is not accepted.",
     "Send a valid token as 'Authorization: Bearer <token>'; sign in again to get one."},
    {Code::token_expired, "TUNNEL_003", "authentication", 401, 4401, "Your access token has expired.",
     "Get a fresh token and repeat the request with it."},
    {Code::unavailable, "TUNNEL_004", "server", 503, 1012,
     "The tunnel is restarting or not available right now.",
     "Try again after the time in Retry-After; another instance may answer at once."},
    {Code::rate_limited, "TUNNEL_005", "server", 429, 4429, "Too many requests in a short time.",
     "Wait for the time in Retry-After and send requests more slowly."},
    {Code::queue_full, "TUNNEL_006", "server", 503, 1013, "Too many requests are already waiting.",
     "Wait for earlier requests to finish, or send fewer at the same time."},
    {Code::timed_out, "TUNNEL_007", "protocol", 504, 4408, "The service did not answer in time.",
     "Try again if the request may be repeated, or allow more time with X-Tunnel-Timeout (1 to 600 s)."},
    {Code::ssh_error, "TUNNEL_008", "protocol", 502, 1011, "The connection to the service broke.",
     "Try again; if it keeps failing, look at the tunnel's log under this correlation id."},
    {Code::websocket_error, "TUNNEL_009", "protocol", 502, 1011,
     "The service sent an answer that could not be understood.",
     "Ask the service's operator to check what it sends; the tunnel's log names the fault."},
    {Code::bad_request, "TUNNEL_010", "configuration", 400, 1002, "The request is not valid.",
     "Correct the request as the message says; repeating it unchanged will fail again."},
    {Code::forbidden, "TUNNEL_011", "authentication", 403, 4403, "You are not allowed to do this.",
     "Use a token with the needed scope, or an Origin that the tunnel's configuration lists."},
    {Code::too_many_connections, "TUNNEL_012", "server", 429, 4429, "You have too many open connections.",
     "Close a connection you no longer need, or wait until one ends."},
    {Code::outcome_unknown, "TUNNEL_013", "server", 502, 1011,
     "The request was sent, but its result is unknown.",
     "Check whether it took effect before repeating it; an Idempotency-Key lets the tunnel repeat safely."},
    {Code::circuit_open, "TUNNEL_014", "server", 503, 1013,
     "The service failed repeatedly and is given a pause.",
     "Wait for the time in Retry-After; meanwhile check the service itself."},
    {Code::host_key_mismatch, "TUNNEL_015", "protocol", 502, 1011,
     "The machine behind the tunnel could not be identified safely.",
     "Compare its SSH host key with the pinned one; change the pin only if the new key is known to be "
     "right."},
    {Code::too_large, "TUNNEL_016", "protocol", 413, 1009, "The request or message is too large.",
     "Send it in smaller parts."},
    {Code::service_denied, "TUNNEL_017", "authentication", 403, 4403,
     "There is no such service, or you may not use it.",
     "Check the service's name, and ask its owner for access if the name is right."},
    {Code::no_agent, "TUNNEL_018", "server", 503, 1013, "Nothing is connected behind this service.",
     "Start the agent next to the service, then try again."},
};

constexpr bool in_order() {
  for (std::size_t at = 0; at < std::size(kFacts); ++at)
    if (static_cast<std::size_t>(kFacts[at].code) != at + 1) return false;
  return static_cast<std::size_t>(Code::no_agent) == std::size(kFacts);
}
static_assert(in_order(), "facts() indexes the table by code");

/// The length of the valid UTF-8 sequence at the start of `text`, or 0 (RFC 3629: no overlong forms,
/// no surrogates, nothing past U+10FFFF).
std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [text](std::size_t at) {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : static_cast<unsigned char>(0);
  };
  const auto continues = [&byte](std::size_t at) { return (byte(at) & 0xc0) == 0x80; };
  const unsigned first = byte(0);
  const unsigned second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0)) return 0;
    return continues(1) && continues(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second >= 0x90)) return 0;
    return continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

/// A message may quote what a far side sent, so bytes that are not UTF-8 become U+FFFD: the body must
/// be JSON whatever happened.
void append_json_string(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out.push_back('"');
  while (!text.empty()) {
    const auto size = utf8_sequence(text);
    const auto first = static_cast<unsigned char>(text.front());
    if (size == 0)
      out.append("\\ufffd");
    else if (first == '"' || first == '\\')
      out.append({'\\', text.front()});
    else if (first < 0x20 || first == 0x7f)
      out.append("\\u00").append({kHex[first >> 4], kHex[first & 15]});
    else
      out.append(text.substr(0, size));
    text.remove_prefix(size == 0 ? 1 : size);
  }
  out.push_back('"');
}

}  // namespace

const CodeFacts& facts(Code code) {
  return kFacts[static_cast<std::size_t>(code) - 1];
}

std::string error_body(const Refusal& refusal, std::string_view now, std::string_view request_id,
                       std::string_view correlation_id) {
  const auto& known = facts(refusal.code);
  std::string body;
  body.reserve(512 + refusal.message.size());
  const auto add = [&body](std::string_view key, std::string_view value) {
    body.append(body.empty() ? R"({"error":{")" : ",\"").append(key).append("\":");
    append_json_string(body, value);
  };
  add("code", known.name);
  add("category", known.category);
  add("message", refusal.message);
  add("userMessage", known.user_message);
  add("suggestion", known.suggestion);
  add("timestamp", now);
  add("requestId", request_id);
  add("correlationId", correlation_id);
  if (refusal.retry_after)
    body.append(",\"retryAfter\":").append(std::to_string(refusal.retry_after->count()));
  add("docUrl", std::string("docs/errors/").append(known.name).append(".md"));
  return body.append("}}\n");
}

}  // namespace tunnel
