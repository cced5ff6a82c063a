#include "tunnel/forwarded_head.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace tunnel {
namespace {

/// What becomes of a field on its way.
enum class Fate { keep, drop, forwarded_for, authorization, subprotocols };

/// The longest name the tables know; longer ones can only match a prefix.
constexpr std::size_t kLongestKnown = 24;

/// A name in lower case with "_" as "-": CGI-like servers cannot tell them apart.
class PlainName {
 public:
  explicit PlainName(std::string_view name) : size_(std::min(name.size(), text_.size())) {
    for (std::size_t at = 0; at < size_; ++at) {
      const char c = name[at];
      underscore_ |= c == '_';
      text_[at] = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
    }
    whole_ = size_ == name.size();
  }
  std::string_view text() const { return {text_.data(), size_}; }
  bool whole() const { return whole_; }
  bool has_underscore() const { return underscore_; }

 private:
  std::array<char, kLongestKnown> text_;
  std::size_t size_;
  bool whole_ = false;
  bool underscore_ = false;
};

bool is_one_of(std::string_view name, std::span<const std::string_view> names) {
  return std::any_of(names.begin(), names.end(), [name](std::string_view known) { return known == name; });
}

constexpr std::string_view kHopByHop[] = {"connection", "keep-alive",         "proxy-connection",
                                          "te",         "proxy-authenticate", "proxy-authorization",
                                          "upgrade",    "transfer-encoding",  "content-length"};
constexpr std::string_view kSetByUs[] = {"host",      "expect",    "x-correlation-id", "idempotency-key",
                                         "forwarded", "x-real-ip", "http2-settings"};

Fate fate_in_request(const Header& field) {
  const PlainName name(field.name);
  const auto text = name.text();
  Fate fate = Fate::keep;
  if (text.starts_with("x-tunnel-"))
    fate = Fate::drop;
  else if (text == "x-forwarded-for" && name.whole())
    fate = Fate::forwarded_for;
  else if (text.starts_with("x-forwarded-"))
    fate = Fate::drop;
  else if (!name.whole())
    fate = Fate::keep;
  else if (is_one_of(text, kHopByHop) || is_one_of(text, kSetByUs))
    fate = Fate::drop;
  else if (text == "authorization")
    fate = Fate::authorization;
  else if (text == "sec-websocket-protocol")
    fate = Fate::subprotocols;
  return fate != Fate::keep && name.has_underscore() ? Fate::drop : fate;
}

bool drops_in_answer(const Header& field) {
  const PlainName name(field.name);
  const auto text = name.text();
  if (text.starts_with("x-tunnel-")) return true;
  return name.whole() && (is_one_of(text, kHopByHop) || text == "x-correlation-id" || text == "alt-svc");
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Calls `visit` with each element of a comma-separated list.
template <class Visit>
void each_element(std::string_view list, Visit visit) {
  while (!list.empty()) {
    const auto comma = list.find(',');
    const auto element = trim(list.substr(0, comma));
    if (!element.empty()) visit(element);
    list = comma == list.npos ? std::string_view{} : list.substr(comma + 1);
  }
}

/// The names that Connection fields list, for which a look-up per field is needed; usually none.
std::vector<std::string_view> connection_names(const std::vector<Header>& fields) {
  std::vector<std::string_view> names;
  for (const auto& field : fields)
    if (same_name(field.name, "connection"))
      each_element(field.value, [&names](std::string_view element) {
        if (!same_name(element, "close") && !same_name(element, "keep-alive") &&
            !same_name(element, "upgrade"))
          names.push_back(element);
      });
  return names;
}

bool named(const std::vector<std::string_view>& names, std::string_view name) {
  return std::any_of(names.begin(), names.end(),
                     [name](std::string_view other) { return same_name(other, name); });
}

bool lists(const std::string* value, std::string_view wanted) {
  bool found = false;
  if (value != nullptr)
    each_element(*value, [&](std::string_view element) { found |= same_name(element, wanted); });
  return found;
}

void add(std::string& text, std::string_view name, std::string_view value) {
  text.append(name).append(": ").append(value).append("\r\n");
}

/// Sec-WebSocket-Protocol without the elements that carry the tunnel's credential.
std::string without_credential(std::string_view protocols) {
  std::string kept;
  each_element(protocols, [&kept](std::string_view element) {
    if (element.starts_with("bearer.") || element.starts_with("ticket.")) return;
    if (!kept.empty()) kept.append(", ");
    kept.append(element);
  });
  return kept;
}

/// Whether the field speaks of a trace in which the caller is not the service's neighbour any more.
bool replaced_by_ours(std::string_view name, const RequestFacts& facts) {
  if (facts.traceparent.empty()) return false;
  return same_name(name, "traceparent") ||
         (facts.tracestate == Tracestate::drop && same_name(name, "tracestate"));
}

void add_host(std::string& text, const Service& service) {
  const bool ipv6 =
      service.target_host.find(':') != std::string::npos && !service.target_host.starts_with('[');
  text.append("Host: ").append(ipv6 ? "[" : "").append(service.target_host).append(ipv6 ? "]" : "");
  if (service.target_port != 80) text.append(":").append(std::to_string(service.target_port));
  text.append("\r\n");
}

}  // namespace

bool upgrade_passes(const RequestHead& request) {
  const auto* protocol = request.wants_upgrade ? request.find("upgrade") : nullptr;
  if (protocol == nullptr) return false;
  bool h2c = false;
  each_element(*protocol,
               [&h2c](std::string_view element) { h2c |= same_name(element.substr(0, 3), "h2c"); });
  return !h2c;
}

std::string head_for_service(const RequestHead& request, const RequestFacts& facts) {
  std::string text;
  std::size_t bytes = request.method.size() + facts.target.size() + 256;
  for (const auto& field : request.fields) bytes += field.name.size() + field.value.size() + 4;
  text.reserve(bytes);

  text.append(request.method).append(" ").append(facts.target).append(" HTTP/1.1\r\n");
  add_host(text, *facts.service);
  const auto hop_names = connection_names(request.fields);
  const bool upgrades = upgrade_passes(request);
  const std::string* host = nullptr;
  bool wants_trailers = false;
  std::string forwarded_for;
  for (const auto& field : request.fields) {
    if (field.name.size() == 4 && same_name(field.name, "host")) host = &field.value;
    if (field.name.size() == 2 && same_name(field.name, "te"))
      wants_trailers |= lists(&field.value, "trailers");
    const auto fate = fate_in_request(field);
    if (fate == Fate::drop) continue;
    if (fate == Fate::forwarded_for) {
      if (!field.value.empty()) forwarded_for.append(field.value).append(", ");
      continue;
    }
    if (!hop_names.empty() && named(hop_names, field.name)) continue;
    if (replaced_by_ours(field.name, facts)) continue;
    if (fate == Fate::authorization && facts.credential == Credential::authorization) continue;
    if (fate == Fate::subprotocols && facts.credential == Credential::subprotocol) {
      const auto kept = without_credential(field.value);
      if (!kept.empty()) add(text, field.name, kept);
      continue;
    }
    add(text, field.name, field.value);
  }

  text.append("X-Forwarded-For: ").append(forwarded_for).append(facts.peer_address).append("\r\n");
  add(text, "X-Forwarded-Proto", facts.scheme);
  if (host != nullptr) add(text, "X-Forwarded-Host", *host);
  add(text, "X-Correlation-ID", facts.correlation_id);
  if (!facts.traceparent.empty()) add(text, "traceparent", facts.traceparent);
  if (request.expects_continue) text.append("Expect: 100-continue\r\n");
  if (wants_trailers) text.append("TE: trailers\r\n");
  if (upgrades) {
    add(text, "Upgrade", *request.find("upgrade"));
    text.append(wants_trailers ? "Connection: Upgrade, TE\r\n" : "Connection: Upgrade\r\n");
  } else if (wants_trailers) {
    text.append("Connection: TE\r\n");
  }
  if (const auto* sized = std::get_if<SizedBody>(&facts.body))
    add(text, "Content-Length", std::to_string(sized->bytes));
  else if (std::holds_alternative<ChunkedBody>(facts.body))
    text.append("Transfer-Encoding: chunked\r\n");
  else if (request.method == "POST" || request.method == "PUT" || request.method == "PATCH")
    text.append("Content-Length: 0\r\n");  // RFC 9110 8.6; some servers answer 411 without it
  return text.append("\r\n");
}

ResponseHead head_for_caller(ResponseHead answer, std::string_view request_method, int caller_minor_version,
                             std::string_view correlation_id) {
  // The fields of an answer without a body still say what a GET would have had.
  const bool describes_only = std::holds_alternative<NoBody>(answer.body) && answer.status >= 200 &&
                              (request_method == "HEAD" || answer.status == 304) && answer.status != 204;
  if (describes_only) {
    answer.body = UntilCloseBody{};
    if (answer.find("transfer-encoding") != nullptr) answer.body = ChunkedBody{};
    if (const auto* length = answer.find("content-length")) {
      std::uint64_t bytes = 0;
      std::from_chars(length->data(), length->data() + length->size(), bytes);
      answer.body = SizedBody{bytes};
    }
  } else if (std::holds_alternative<UntilCloseBody>(answer.body)) {
    answer.body = ChunkedBody{};  // keeps the caller's connection, and a cut can be told from the end
  }
  if (caller_minor_version == 0 && std::holds_alternative<ChunkedBody>(answer.body))
    answer.body = UntilCloseBody{};

  std::string upgrade;
  if (answer.status == 101)
    if (const auto* value = answer.find("upgrade")) upgrade = *value;
  const auto names = connection_names(answer.fields);
  // Views into values move with their strings, so what Connection names is judged before anything moves.
  std::vector<Header> kept;
  kept.reserve(answer.fields.size() + 3);
  std::vector<bool> drop(answer.fields.size());
  for (std::size_t at = 0; at < answer.fields.size(); ++at)
    drop[at] = drops_in_answer(answer.fields[at]) || (!names.empty() && named(names, answer.fields[at].name));
  for (std::size_t at = 0; at < answer.fields.size(); ++at)
    if (!drop[at]) kept.push_back(std::move(answer.fields[at]));
  if (!upgrade.empty()) {
    kept.push_back({"Upgrade", std::move(upgrade)});
    kept.push_back({"Connection", "Upgrade"});
  }
  kept.push_back({"X-Correlation-ID", std::string(correlation_id)});
  answer.fields = std::move(kept);
  answer.minor_version = 1;
  answer.keep_alive = true;  // the service's wish is about its own connection
  return answer;
}

Served<Priority> priority_of(const RequestHead& request) {
  auto priority = Priority::normal;
  bool seen = false;
  for (const auto& field : request.fields) {
    if (!same_name(field.name, "x-tunnel-priority")) continue;
    const auto named = priority_named(field.value);
    if (!named) return refuse(Code::bad_request, "X-Tunnel-Priority is not high, normal or low");
    if (seen) return refuse(Code::bad_request, "X-Tunnel-Priority is there twice");
    priority = *named;
    seen = true;
  }
  return priority;
}

bool repeatable(const RequestHead& request) {
  static constexpr std::string_view kMethods[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
  return is_one_of(request.method, kMethods) || request.find("idempotency-key") != nullptr;
}

}  // namespace tunnel
