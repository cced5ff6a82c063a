#include "tunnel/http1.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>

namespace tunnel {
namespace {

using tl::unexpected;

/// One table look-up per byte: which sets of the grammar a byte belongs to.
enum ByteSet : std::uint8_t {
  kToken = 1,     // tchar of RFC 9110 5.6.2
  kValue = 2,     // field-vchar, SP, HTAB and obs-text
  kTarget = 4,    // visible ASCII without "#": what may stand in a request target
  kHostName = 8,  // reg-name without sub-delims and escapes, which no real host uses
  kAddress = 16,  // inside the brackets of an IPv6 literal
};

constexpr std::array<std::uint8_t, 256> make_sets() {
  std::array<std::uint8_t, 256> sets{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool digit = byte >= '0' && byte <= '9';
    const bool hex_letter = (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
    const bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
    bool other_token = false;
    for (const char c : std::string_view("!#$%&'*+-.^_`|~"))
      other_token |= byte == static_cast<unsigned char>(c);
    std::uint8_t set = 0;
    if (digit || letter || other_token) set |= kToken;
    if (byte == '\t' || (byte >= 0x20 && byte != 0x7f)) set |= kValue;
    if (byte > 0x20 && byte < 0x7f && byte != '#') set |= kTarget;
    if (digit || letter || byte == '.' || byte == '-' || byte == '_' || byte == '~') set |= kHostName;
    if (digit || hex_letter || byte == ':' || byte == '.') set |= kAddress;
    sets[byte] = set;
  }
  return sets;
}
constexpr auto kSets = make_sets();

bool is(char byte, ByteSet set) {
  return (kSets[static_cast<unsigned char>(byte)] & set) != 0;
}

/// Index of the first byte outside `set`, or text.size().
std::size_t first_outside(std::string_view text, ByteSet set) {
  std::size_t at = 0;
  while (at < text.size() && is(text[at], set)) ++at;
  return at;
}

bool all(std::string_view text, ByteSet set) {
  return first_outside(text, set) == text.size();
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

Malformed bad(std::string_view reason, unsigned status = 400) {
  return {reason, status};
}

/// The reason for a byte that may not stand where it was found.
std::string_view name_of_bad_byte(char byte) {
  if (byte == '\r') return "bare_cr";
  if (byte == '\0') return "nul";
  return "control_character";
}

/// Walks the lines of a head. Every line ends in CRLF and the last one is empty.
class Lines {
 public:
  explicit Lines(std::string_view head) : rest_(head) {}

  /// The next line without its CRLF.
  tl::expected<std::string_view, Malformed> next() {
    const auto end = rest_.find('\n');
    if (end == std::string_view::npos) return unexpected(bad("incomplete"));
    if (end == 0 || rest_[end - 1] != '\r') return unexpected(bad("bare_lf"));
    const auto line = rest_.substr(0, end - 1);
    rest_.remove_prefix(end + 1);
    return line;
  }
  bool at_end() const { return rest_.empty(); }
  /// For reserving: the field lines left, the closing empty line not counted.
  std::size_t estimate() const {
    const auto lines = static_cast<std::size_t>(std::count(rest_.begin(), rest_.end(), '\n'));
    return lines > 0 ? lines - 1 : 0;
  }

 private:
  std::string_view rest_;
};

tl::expected<Header, Malformed> parse_field(std::string_view line) {
  const auto name_size = first_outside(line, kToken);
  if (name_size == line.size()) return unexpected(bad("no_colon"));
  if (line[name_size] != ':') {
    if (name_size == 0) return unexpected(bad("field_name"));
    const char byte = line[name_size];
    if (byte == ' ' || byte == '\t') {
      const auto next = line.find_first_not_of(" \t", name_size);
      return unexpected(bad(next != line.npos && line[next] == ':' ? "space_before_colon" : "field_name"));
    }
    return unexpected(bad(is(byte, kValue) ? "field_name" : name_of_bad_byte(byte)));
  }
  if (name_size == 0) return unexpected(bad("field_name"));
  const auto raw = line.substr(name_size + 1);
  const auto outside = first_outside(raw, kValue);
  if (outside != raw.size()) return unexpected(bad(name_of_bad_byte(raw[outside])));
  return Header{std::string(line.substr(0, name_size)), std::string(trim(raw))};
}

/// What the fields say about the message's end and the connection, gathered in one pass.
struct Facts {
  std::optional<std::uint64_t> length;
  bool chunked = false;
  unsigned hosts = 0;
  bool close = false;
  bool keep_alive = false;
  bool upgrade_option = false;
  bool upgrade_field = false;
  bool expects_continue = false;
};

std::optional<std::uint64_t> parse_length(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // from_chars takes no sign or space for unsigned types; 19 digits and the sign bit keep sums safe.
  if (error != std::errc{} || end != text.data() + text.size() || text.size() > 19 ||
      value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return std::nullopt;
  return value;
}

bool valid_host(std::string_view host) {
  if (host.size() > 261) return false;  // 255 and ":65535"
  std::string_view port;
  if (host.starts_with('[')) {
    const auto close = host.find(']');
    if (close == host.npos || close < 3 || !all(host.substr(1, close - 1), kAddress)) return false;
    port = host.substr(close + 1);
  } else {
    const auto size = first_outside(host, kHostName);
    if (size == 0) return false;
    port = host.substr(size);
  }
  if (port.empty()) return true;
  unsigned value = 0;
  const auto digits = port.substr(1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return port.front() == ':' && !digits.empty() && digits.size() <= 5 && error == std::errc{} &&
         end == digits.data() + digits.size() && value <= 65535;
}

/// Reads one Connection field. Naming a field that frames or routes the message would ask the next
/// hop to drop it: nobody honest does.
std::optional<Malformed> note_connection(std::string_view value, Facts& facts) {
  while (!value.empty()) {
    const auto comma = value.find(',');
    const auto option = trim(value.substr(0, comma));
    value = comma == value.npos ? std::string_view{} : value.substr(comma + 1);
    if (option.empty()) continue;  // RFC 9110 5.6.1.2: empty list elements are ignored
    if (!all(option, kToken)) return bad("connection_option");
    if (same_name(option, "close"))
      facts.close = true;
    else if (same_name(option, "keep-alive"))
      facts.keep_alive = true;
    else if (same_name(option, "upgrade"))
      facts.upgrade_option = true;
    else if (same_name(option, "content-length") || same_name(option, "transfer-encoding") ||
             same_name(option, "host"))
      return bad("connection_option");
  }
  return std::nullopt;
}

/// Notes what one field means for framing and connection. Only the lengths of the names that matter
/// are looked at further.
std::optional<Malformed> note(const Header& field, int minor_version, Facts& facts) {
  switch (field.name.size()) {
    case 4:
      if (same_name(field.name, "host")) {
        if (++facts.hosts > 1) return bad("duplicate_host");
        if (!valid_host(field.value)) return bad("host");
      }
      break;
    case 6:
      if (same_name(field.name, "expect")) {
        if (facts.expects_continue || !same_name(field.value, "100-continue")) return bad("expectation", 417);
        facts.expects_continue = true;
      }
      break;
    case 7:
      if (same_name(field.name, "upgrade")) facts.upgrade_field |= !field.value.empty();
      break;
    case 10:
      if (same_name(field.name, "connection")) return note_connection(field.value, facts);
      break;
    case 14:
      if (same_name(field.name, "content-length")) {
        if (facts.length) return bad("duplicate_content_length");
        if (facts.chunked) return bad("length_and_transfer_encoding");
        facts.length = parse_length(field.value);
        if (!facts.length) return bad("content_length");
      }
      break;
    case 17:
      if (same_name(field.name, "transfer-encoding")) {
        if (minor_version == 0) return bad("transfer_encoding_in_1_0");
        if (facts.chunked || !same_name(field.value, "chunked")) return bad("transfer_encoding");
        if (facts.length) return bad("length_and_transfer_encoding");
        facts.chunked = true;
      }
      break;
    default: break;
  }
  return std::nullopt;
}

std::optional<Malformed> parse_fields(Lines& lines, int minor_version, const HeadLimits& limits,
                                      std::vector<Header>& fields, Facts& facts) {
  fields.reserve(std::min(lines.estimate(), limits.max_fields));
  for (;;) {
    const auto line = lines.next();
    if (!line) return line.error();
    if (line->empty()) break;
    if (line->size() > limits.max_line_bytes) return bad("header_size", 431);
    if (line->front() == ' ' || line->front() == '\t') return bad("obs_fold");
    if (fields.size() == limits.max_fields) return bad("header_count", 431);
    auto field = parse_field(*line);
    if (!field) return field.error();
    if (const auto wrong = note(*field, minor_version, facts)) return wrong;
    fields.push_back(std::move(*field));
  }
  if (!lines.at_end()) return bad("bytes_after_head");
  return std::nullopt;
}

/// 0 or 1 for a version we speak, else the refusal.
tl::expected<int, Malformed> parse_version(std::string_view text) {
  if (text == "HTTP/1.1") return 1;
  if (text == "HTTP/1.0") return 0;
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const bool well_formed =
      text.size() == 8 && text.starts_with("HTTP/") && digit(text[5]) && text[6] == '.' && digit(text[7]);
  return unexpected(well_formed ? bad("version", 505) : bad("start_line"));
}

bool known_method(std::string_view method) {
  static constexpr std::string_view kMethods[] = {"GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS"};
  return std::find(std::begin(kMethods), std::end(kMethods), method) != std::end(kMethods);
}

tl::expected<RequestHead, Malformed> parse_request_line(std::string_view line) {
  const auto after_method = first_outside(line, kToken);
  const auto method = line.substr(0, after_method);
  if (method.empty() || after_method == line.size()) return unexpected(bad("start_line"));
  if (line[after_method] != ' ')
    return unexpected(
        bad(is(line[after_method], kValue) ? "start_line" : name_of_bad_byte(line[after_method])));
  if (method == "CONNECT" || method == "TRACE") return unexpected(bad("method_refused", 405));
  if (!known_method(method)) return unexpected(bad("method_unknown", 501));

  const auto rest = line.substr(after_method + 1);
  const auto target = rest.substr(0, first_outside(rest, kTarget));
  if (target.size() == rest.size()) return unexpected(bad("start_line"));
  if (rest[target.size()] != ' ') {
    const char byte = rest[target.size()];
    if (byte == '\r' || byte == '\0') return unexpected(bad(name_of_bad_byte(byte)));
    return unexpected(bad(byte == '\t' ? "start_line" : "target"));
  }
  const auto version = parse_version(rest.substr(target.size() + 1));
  if (!version) return unexpected(version.error());
  if (!target.starts_with('/')) return unexpected(bad(target.empty() ? "start_line" : "target_form"));

  RequestHead head;
  head.method = method;
  head.target = target;
  head.minor_version = *version;
  return head;
}

tl::expected<ResponseHead, Malformed> parse_status_line(std::string_view line) {
  const auto version = parse_version(line.substr(0, std::min<std::size_t>(8, line.size())));
  if (!version) return unexpected(version.error());
  ResponseHead head;
  head.minor_version = *version;
  // RFC 9112 4 wants a space after the code even without a reason; enough servers forget it.
  if (line.size() < 12 || line[8] != ' ' || (line.size() > 12 && line[12] != ' '))
    return unexpected(bad("start_line"));
  const auto [end, error] = std::from_chars(line.data() + 9, line.data() + 12, head.status);
  if (error != std::errc{} || end != line.data() + 12) return unexpected(bad("start_line"));
  if (head.status < 100 || head.status > 599) return unexpected(bad("status"));
  if (line.size() > 13) {
    const auto reason = line.substr(13);
    const auto outside = first_outside(reason, kValue);
    if (outside != reason.size()) return unexpected(bad(name_of_bad_byte(reason[outside])));
    head.reason = reason;
  }
  return head;
}

const std::string* find_in(const std::vector<Header>& fields, std::string_view name) {
  for (const auto& field : fields)
    if (same_name(field.name, name)) return &field.value;
  return nullptr;
}

void append_fields(std::string& text, const std::vector<Header>& fields) {
  for (const auto& field : fields) text.append(field.name).append(": ").append(field.value).append("\r\n");
}

std::size_t size_of(const std::vector<Header>& fields) {
  std::size_t bytes = 0;
  for (const auto& field : fields) bytes += field.name.size() + field.value.size() + 4;
  return bytes;
}

void append_framing(std::string& text, const BodyFraming& body) {
  if (const auto* sized = std::get_if<SizedBody>(&body))
    text.append("Content-Length: ").append(std::to_string(sized->bytes)).append("\r\n");
  else if (std::holds_alternative<ChunkedBody>(body))
    text.append("Transfer-Encoding: chunked\r\n");
}

/// Trailers that would change how the message is read if somebody merged them into the head.
bool frames_message(std::string_view name) {
  return same_name(name, "content-length") || same_name(name, "transfer-encoding") || same_name(name, "host");
}

/// Trailers RFC 9110 6.5.1 forbids (framing, routing, modifiers, authentication, content handling):
/// dropped, as a recipient may.
bool forbidden_trailer(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "connection",    "keep-alive",    "te",           "trailer",          "upgrade",
      "authorization", "cookie",        "set-cookie",   "www-authenticate", "proxy-authenticate",
      "expect",        "max-forwards",  "range",        "content-encoding", "proxy-authorization",
      "content-type",  "content-range", "cache-control"};
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [name](std::string_view known) { return same_name(name, known); });
}

}  // namespace

bool same_name(std::string_view left, std::string_view right) {
  if (left.size() != right.size()) return false;
  for (std::size_t at = 0; at < left.size(); ++at)
    if (left[at] != right[at] && lower(left[at]) != lower(right[at])) return false;
  return true;
}

const std::string* RequestHead::find(std::string_view name) const {
  return find_in(fields, name);
}
const std::string* ResponseHead::find(std::string_view name) const {
  return find_in(fields, name);
}

std::optional<std::size_t> find_head_end(std::span<const std::byte> bytes, std::size_t& scanned) {
  const auto* const start = reinterpret_cast<const char*>(bytes.data());
  while (scanned < bytes.size()) {
    const auto* found = static_cast<const char*>(std::memchr(start + scanned, '\n', bytes.size() - scanned));
    if (found == nullptr) {
      scanned = bytes.size();
      break;
    }
    const auto at = static_cast<std::size_t>(found - start);
    scanned = at + 1;
    const bool bare = at == 0 || start[at - 1] != '\r';
    if (bare) return at + 1;  // will never become valid: let the parser refuse it now
    if (at >= 3 && start[at - 2] == '\n' && start[at - 3] == '\r') return at + 1;
  }
  return std::nullopt;
}

tl::expected<RequestHead, Malformed> parse_request_head(std::string_view text, const HeadLimits& limits) {
  Lines lines(text);
  const auto start = lines.next();
  if (!start) return unexpected(start.error());
  if (start->size() > limits.max_line_bytes) return unexpected(bad("request_line_size", 414));
  if (text.size() > limits.max_total_bytes) return unexpected(bad("header_size", 431));
  auto head = parse_request_line(*start);
  if (!head) return head;

  Facts facts;
  if (const auto wrong = parse_fields(lines, head->minor_version, limits, head->fields, facts))
    return unexpected(*wrong);
  const bool modern = head->minor_version == 1;
  if (modern && facts.hosts == 0) return unexpected(bad("host_missing"));

  if (facts.chunked)
    head->body = ChunkedBody{};
  else if (facts.length)
    head->body = SizedBody{*facts.length};
  const bool has_body = facts.chunked || facts.length.value_or(0) > 0;
  head->keep_alive = !facts.close && (modern || facts.keep_alive);
  // RFC 9110 10.1.1: ignored from HTTP/1.0 and where there is no body to hold back.
  head->expects_continue = facts.expects_continue && modern && has_body;
  head->wants_upgrade = facts.upgrade_option && facts.upgrade_field && modern;
  return head;
}

tl::expected<ResponseHead, Malformed> parse_response_head(std::string_view text,
                                                          std::string_view request_method,
                                                          const HeadLimits& limits) {
  Lines lines(text);
  const auto start = lines.next();
  if (!start) return unexpected(start.error());
  if (start->size() > limits.max_line_bytes) return unexpected(bad("request_line_size", 414));
  if (text.size() > limits.max_total_bytes) return unexpected(bad("header_size", 431));
  auto head = parse_status_line(*start);
  if (!head) return head;

  Facts facts;
  if (const auto wrong = parse_fields(lines, head->minor_version, limits, head->fields, facts))
    return unexpected(*wrong);
  head->keep_alive = !facts.close && (head->minor_version == 1 || facts.keep_alive);

  const bool never_has_body = head->status < 200 || head->status == 204;
  if (never_has_body || head->status == 304 || request_method == "HEAD") {
    head->body = NoBody{};
    // RFC 9110 8.6 forbids a length here; a sender that means it would desynchronise the connection.
    if (never_has_body && (facts.chunked || facts.length.value_or(0) > 0)) head->keep_alive = false;
  } else if (facts.chunked) {
    head->body = ChunkedBody{};
  } else if (facts.length) {
    head->body = SizedBody{*facts.length};
  } else {
    head->body = UntilCloseBody{};
    head->keep_alive = false;
  }
  return head;
}

tl::expected<ChunkDecoder::Step, Malformed> ChunkDecoder::decode(std::span<const std::byte> input) {
  const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
  Step step;
  while (state_ != State::done) {
    if (state_ == State::data) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, text.size() - step.consumed));
      if (size == 0) return step;
      step.data = input.subspan(step.consumed, size);
      step.consumed += size;
      left_ -= size;
      if (left_ == 0) state_ = State::data_end;
      return step;
    }
    const auto line = take_line(text, step.consumed);
    if (!line) return unexpected(line.error());
    if (!*line) return step;
    const auto wrong = state_ == State::size_line  ? note_size(**line)
                       : state_ == State::data_end ? note_data_end(**line)
                                                   : note_trailer(**line);
    line_.clear();
    if (wrong) return unexpected(*wrong);
  }
  step.done = true;
  return step;
}

tl::expected<std::optional<std::string_view>, Malformed> ChunkDecoder::take_line(std::string_view text,
                                                                                 std::size_t& consumed) {
  // A size line is a few digits, the end of data is empty: whatever is longer is an attack on memory.
  static constexpr std::size_t kMaxSizeLine = 256;
  const auto limit = state_ == State::trailer_line ? limits_.max_line_bytes
                     : state_ == State::size_line  ? kMaxSizeLine
                                                   : std::size_t{0};
  const auto rest = text.substr(consumed);
  const auto end = rest.find('\n');
  const auto piece = rest.substr(0, end);
  const auto reason = state_ == State::trailer_line ? std::string_view("trailer_size")
                      : state_ == State::size_line  ? std::string_view("chunk_size")
                                                    : std::string_view("chunk_end");
  const unsigned status = state_ == State::trailer_line ? 431 : 400;
  if (line_.size() + piece.size() > limit + 1) return unexpected(bad(reason, status));  // + 1: the CR
  // A CR may only be the last byte before the LF; seen earlier in a piece, nothing can mend it.
  if (const auto cr = piece.find('\r'); cr != piece.npos && cr + 1 != piece.size())
    return unexpected(bad("bare_cr"));
  if (!piece.empty() && line_.ends_with('\r')) return unexpected(bad("bare_cr"));
  if (end == rest.npos) {
    line_.append(piece);
    consumed = text.size();
    return std::optional<std::string_view>{};
  }
  consumed += end + 1;
  std::string_view line = piece;
  if (!line_.empty()) line = line_.append(piece);
  if (!line.ends_with('\r')) return unexpected(bad("bare_lf"));
  return line.substr(0, line.size() - 1);
}

std::optional<Malformed> ChunkDecoder::note_size(std::string_view line) {
  const auto digits = std::min(line.find(';'), line.size());
  const auto [end, error] = std::from_chars(line.data(), line.data() + digits, left_, 16);
  if (digits == 0 || digits > 16 || error != std::errc{} || end != line.data() + digits)
    return bad("chunk_size");
  if (!all(line.substr(digits), kValue)) return bad("chunk_extension");
  // Tiny chunks with long extensions make us read far more than the body holds (CVE-2023-39326):
  // each chunk may carry 16 bytes for free and as many as its data, the rest comes out of a budget.
  const auto overhead = line.size() - digits;
  const auto free = static_cast<std::size_t>(std::min<std::uint64_t>(left_, limits_.max_total_bytes)) + 16;
  if (overhead > free) extension_bytes_ += overhead - free;
  if (extension_bytes_ > limits_.max_line_bytes) return bad("chunk_extension");
  state_ = left_ == 0 ? State::trailer_line : State::data;
  return std::nullopt;
}

std::optional<Malformed> ChunkDecoder::note_data_end(std::string_view line) {
  if (!line.empty()) return bad("chunk_end");
  state_ = State::size_line;
  return std::nullopt;
}

std::optional<Malformed> ChunkDecoder::note_trailer(std::string_view line) {
  if (line.empty()) {
    state_ = State::done;
    return std::nullopt;
  }
  trailer_bytes_ += line.size() + 2;
  if (trailer_bytes_ > limits_.max_total_bytes) return bad("trailer_size", 431);
  if (++trailer_lines_ > limits_.max_fields) return bad("trailer_count", 431);
  if (line.front() == ' ' || line.front() == '\t') return bad("obs_fold");
  auto field = parse_field(line);
  if (!field) return field.error();
  if (frames_message(field->name)) return bad("forbidden_trailer");
  if (!forbidden_trailer(field->name)) trailers_.push_back(std::move(*field));
  return std::nullopt;
}

std::string serialize(const RequestHead& head) {
  std::string text;
  text.reserve(head.method.size() + head.target.size() + size_of(head.fields) + 64);
  text.append(head.method).append(" ").append(head.target);
  text.append(head.minor_version == 0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
  append_fields(text, head.fields);
  append_framing(text, head.body);
  return text.append("\r\n");
}

std::string serialize(const ResponseHead& head) {
  std::string text;
  text.reserve(head.reason.size() + size_of(head.fields) + 64);
  text.append(head.minor_version == 0 ? "HTTP/1.0 " : "HTTP/1.1 ").append(std::to_string(head.status));
  text.append(" ").append(head.reason).append("\r\n");
  append_fields(text, head.fields);
  append_framing(text, head.body);
  const bool bodiless_status = head.status < 200 || head.status == 204 || head.status == 304;
  if (std::holds_alternative<NoBody>(head.body) && !bodiless_status) text.append("Content-Length: 0\r\n");
  return text.append("\r\n");
}

std::string chunk_prefix(std::size_t bytes) {
  std::array<char, 18> text{};
  auto* end = std::to_chars(text.data(), text.data() + 16, bytes, 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  return {text.data(), end};
}

std::string chunk_end(const std::vector<Header>& trailers) {
  std::string text = "0\r\n";
  append_fields(text, trailers);
  return text.append("\r\n");
}

}  // namespace tunnel
