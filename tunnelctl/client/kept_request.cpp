#include "tunnelctl/client/kept_request.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <boost/asio/ip/address.hpp>

#include "tunnel/forwarded_head.h"
#include "tunnelctl/client/listeners.h"

namespace tunnelctl::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

constexpr std::string_view kFirstLine = "tunnel-kept 1\n";
constexpr std::int64_t kYear2100 = 4'102'444'800'000;
constexpr std::string_view kCredentials[] = {"authorization", "cookie", "proxy-authorization", "x-api-key"};
/// Of the wire it came on; written anew on the next.
constexpr std::string_view kFraming[] = {"content-length", "transfer-encoding", "expect", "trailer"};

/// CGI-like servers cannot tell "_" from "-".
bool same_plain_name(std::string_view left, std::string_view right) {
  const auto plain = [](char c) { return c == '_' ? '-' : c; };
  std::string a(left.size(), ' '), b(right.size(), ' ');
  std::transform(left.begin(), left.end(), a.begin(), plain);
  std::transform(right.begin(), right.end(), b.begin(), plain);
  return tunnel::same_name(a, b);
}

template <class Names>
bool is_one_of(std::string_view name, const Names& names) {
  return std::any_of(std::begin(names), std::end(names),
                     [name](std::string_view other) { return same_plain_name(name, other); });
}

/// As edge accepts or makes them.
bool is_request_id(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  return !text.empty() && text.size() <= kLongest && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

bool is_address(const std::string& text) {
  boost::system::error_code error;
  boost::asio::ip::make_address(text, error);
  return !error;
}

std::optional<system_clock::time_point> time_in(std::string_view text) {
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 0 || count >= kYear2100)
    return std::nullopt;
  return system_clock::time_point(milliseconds(count));
}

/// Takes "<name> <value>\n" off the front; nullopt if something else is there.
std::optional<std::string> take_line(std::string_view& text, std::string_view name) {
  const auto end = text.find('\n');
  if (end == std::string_view::npos || !text.starts_with(name) || text.substr(name.size(), 1) != " ")
    return std::nullopt;
  std::string value(text.substr(name.size() + 1, end - std::min(end, name.size() + 1)));
  text.remove_prefix(end + 1);
  return value;
}

tl::unexpected<Error> no_request(const char* what) {
  return fail(Error::Kind::bad_input, std::string("holds no request as they are kept: ") + what);
}

/// Takes the head off the front; its body is what is left then.
Result<tunnel::RequestHead> take_head(std::string_view& text) {
  std::size_t scanned = 0;
  const auto end = tunnel::find_head_end(std::as_bytes(std::span(text)), scanned);
  if (!end) return no_request("no whole head");
  auto head = tunnel::parse_request_head(text.substr(0, *end), {});
  if (!head) return no_request("a wrong head");
  text.remove_prefix(*end);
  const auto* sized = std::get_if<tunnel::SizedBody>(&head->body);
  const bool bodiless = std::holds_alternative<tunnel::NoBody>(head->body);
  if (!bodiless && sized == nullptr) return no_request("a body of unknown size");
  if (text.size() != (bodiless ? 0 : sized->bytes)) return no_request("a body of another size");
  std::erase_if(head->fields, [](const auto& field) { return is_one_of(field.name, kFraming); });
  return std::move(*head);
}

}  // namespace

bool may_be_kept(const tunnel::RequestHead& head) {
  const auto priority = tunnel::priority_of(head);
  return priority && *priority == tunnel::Priority::high && tunnel::repeatable(head) && !head.wants_upgrade;
}

tunnel::RequestHead head_to_keep(const tunnel::RequestHead& head, std::size_t body_bytes,
                                 const std::vector<std::string>& also) {
  auto kept = head;
  std::erase_if(kept.fields, [&also](const tunnel::Header& field) {
    return is_one_of(field.name, kCredentials) || is_one_of(field.name, kFraming) ||
           is_one_of(field.name, also);
  });
  if (!std::holds_alternative<tunnel::NoBody>(kept.body)) kept.body = tunnel::SizedBody{body_bytes};
  kept.expects_continue = false;
  return kept;
}

std::string to_text(const KeptRequest& request) {
  const auto queued = std::chrono::duration_cast<milliseconds>(request.queued.time_since_epoch());
  std::string text(kFirstLine);
  const auto add = [&text](std::string_view name, std::string_view value) {
    text.append(name).append(" ").append(value).append("\n");
  };
  add("queued", std::to_string(queued.count()));
  add("service", request.service);
  add("request", request.request_id);
  add("peer", request.peer_address);
  return text.append(tunnel::serialize(request.head)).append(request.body);
}

Result<KeptRequest> parse_kept_request(std::string_view text) {
  auto rest = text;
  if (!rest.starts_with(kFirstLine)) return no_request("another version");
  rest.remove_prefix(kFirstLine.size());
  const auto queued = take_line(rest, "queued");
  const auto time = queued ? time_in(*queued) : std::nullopt;
  if (!time) return no_request("no time");
  const auto service = take_line(rest, "service");
  if (!service || !is_service_name(*service)) return no_request("no service");
  const auto id = take_line(rest, "request");
  if (!id || !is_request_id(*id)) return no_request("no id");
  const auto peer = take_line(rest, "peer");
  if (!peer || !is_address(*peer)) return no_request("no caller");
  auto head = take_head(rest);
  if (!head) return tl::unexpected(head.error());
  KeptRequest request{*service, *id, *peer, *time, std::move(*head), std::string(rest)};
  if (!may_be_kept(request.head)) return no_request("one that is not kept");
  // Whatever two readers could understand differently, we have not written.
  if (to_text(request) != text) return no_request("another way of writing");
  return request;
}

}  // namespace tunnelctl::client
