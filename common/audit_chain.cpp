#include "common/audit_chain.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <system_error>

#include <nlohmann/json.hpp>

#include "common/log_format.h"
#include "common/sha256.h"

namespace audit_chain {
namespace {

using namespace std::literals;

constexpr std::size_t kDigits = 64;
constexpr auto kHashMember = ",\"hash\":\""sv;
constexpr auto kPrevMember = ",\"prev\":\""sv;
constexpr std::size_t kHashTail = kHashMember.size() + kDigits + 2;  // and `"}`
constexpr std::size_t kPrevTail = kPrevMember.size() + kDigits + 1;
constexpr auto kTruncated = ",\"truncated\":true"sv;
/// Room for what append_line puts around a body: `{"seq":` with 20 digits and a comma, the tails, the line
/// feed.
constexpr std::size_t kAroundBody = 28 + kPrevTail + kHashTail + 1;
constexpr std::size_t kTimeBytes = 24;

bool of_every_line(std::string_view name) {
  constexpr std::array kNames{"seq"sv, "time"sv, "instanceId"sv, "event"sv, "prev"sv, "hash"sv};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

bool is_digest(std::string_view text) {
  return text.size() == kDigits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

bool is_time(std::string_view text) {
  constexpr auto kShape = "0000-00-00T00:00:00.000Z"sv;
  return std::equal(text.begin(), text.end(), kShape.begin(), kShape.end(),
                    [](char c, char shape) { return shape == '0' ? c >= '0' && c <= '9' : c == shape; });
}

tl::unexpected<Error> no_line(const std::string& why) {
  return fail(Error::Kind::bad_input, "is no line of an audit log: " + why);
}

/// Reads a line from its front.
struct Cursor {
  std::string_view rest;

  bool skip(std::string_view text) {
    if (!rest.starts_with(text)) return false;
    rest.remove_prefix(text.size());
    return true;
  }
  std::optional<std::uint64_t> number() {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (error != std::errc{} || rest.front() == '0') return {};
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    return value;
  }
  /// What stands between quotes, escapes and all.
  std::optional<std::string_view> text() {
    if (!skip("\"")) return {};
    for (std::size_t at = 0; at < rest.size(); ++at) {
      if (rest[at] == '\\') {
        ++at;
      } else if (rest[at] == '"') {
        const auto inside = rest.substr(0, at);
        rest.remove_prefix(at + 1);
        return inside;
      }
    }
    return {};
  }
};

std::uint64_t lines_lost(std::string_view text) {
  const auto record = nlohmann::json::parse(text, nullptr, false);
  const auto lines = record.find("lines");
  return lines != record.end() && lines->is_number_unsigned() ? lines->get<std::uint64_t>() : 0;
}

std::string counted(std::uint64_t seq) {
  return std::to_string(seq);
}

Error cannot(const std::filesystem::path& path, std::string_view what, int code) {
  const auto kind = code == ENOENT || code == ENOTDIR ? Error::Kind::not_found
                    : code == EACCES || code == EPERM ? Error::Kind::denied
                                                      : Error::Kind::unavailable;
  return {kind,
          path.string() + " cannot be " + std::string(what) + ": " + std::generic_category().message(code)};
}

/// Calls `piece` with the file's bytes until it returns false.
Result<void> read_pieces(const std::filesystem::path& path,
                         const std::function<bool(std::string_view)>& piece) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (file < 0) return tl::unexpected(cannot(path, "opened", errno));
  std::vector<char> buffer(256 * 1024);
  Result<void> result;
  for (;;) {
    const ssize_t count = ::read(file, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) result = tl::unexpected(cannot(path, "read", errno));
    if (count <= 0 || !piece({buffer.data(), static_cast<std::size_t>(count)})) break;
  }
  ::close(file);
  return result;
}

std::string rendered(std::chrono::system_clock::time_point time) {
  std::string text;
  logging::append_json_time(text, time);
  return text;
}

bool field_is(const nlohmann::json& record, const std::string& name, const std::string& wanted) {
  const auto field = record.find(name);
  if (field == record.end()) return false;
  if (field->is_string()) return field->get_ref<const std::string&>() == wanted;
  return field->dump() == wanted;
}

}  // namespace

void append_body(std::string& out, const Entry& entry) {
  const std::size_t start = out.size();
  out.append("\"time\":\"");
  logging::append_json_time(out, entry.time);
  out.append("\",\"instanceId\":");
  // Cut so that even with every byte escaped there is room for fields.
  logging::append_json_text(out, entry.instance_id.substr(0, 255));
  out.append(",\"event\":");
  logging::append_json_text(out, entry.event.substr(0, 64));
  for (const auto& field : entry.fields) {
    const std::size_t before = out.size();
    if (of_every_line(field.key())) {
      logging::append_json_field(out, std::string(field.key()) + "_", field.value());
    } else {
      logging::append_json_field(out, field.key(), field.value());
    }
    if (out.size() - start + kTruncated.size() + kAroundBody > kMaxLineBytes) {
      out.resize(before);
      out.append(kTruncated);
      return;
    }
  }
}

void append_line(std::string& out, std::string_view body, Link& last, std::uint64_t lost) {
  const std::size_t start = out.size();
  last.seq += lost + 1;
  out.append("{\"seq\":").append(counted(last.seq)).append(",").append(body);
  out.append(kPrevMember).append(last.hash).append("\"");
  last.hash = to_hex(sha256(std::string_view(out).substr(start)));
  out.append(kHashMember).append(last.hash).append("\"}\n");
}

bool Line::sound() const {
  return to_hex(sha256(hashed)) == hash;
}

Result<Line> parse_line(std::string_view text) {
  if (text.size() >= kMaxLineBytes) return no_line("longer than " + std::to_string(kMaxLineBytes) + " bytes");
  if (!nlohmann::json::accept(text)) return no_line("not JSON");
  if (text.size() < kPrevTail + kHashTail) return no_line("too short");
  Line line;
  line.hashed = text.substr(0, text.size() - kHashTail);
  auto tail = text.substr(line.hashed.size() - kPrevTail);
  Cursor cursor{line.hashed.substr(0, line.hashed.size() - kPrevTail)};
  line.prev = tail.substr(kPrevMember.size(), kDigits);
  line.hash = tail.substr(kPrevTail + kHashMember.size(), kDigits);
  if (!tail.starts_with(kPrevMember) || tail[kPrevTail - 1] != '"' ||
      tail.substr(kPrevTail, kHashMember.size()) != kHashMember || !tail.ends_with("\"}") ||
      !is_digest(line.prev) || !is_digest(line.hash))
    return no_line("does not end in its two hashes");

  const auto seq = cursor.skip("{\"seq\":") ? cursor.number() : std::nullopt;
  if (!seq) return no_line("does not begin with its number");
  const auto time = cursor.skip(",\"time\":") ? cursor.text() : std::nullopt;
  if (!time || time->size() != kTimeBytes || !is_time(*time)) return no_line("has no time behind its number");
  const auto instance = cursor.skip(",\"instanceId\":") ? cursor.text() : std::nullopt;
  const auto event = instance && cursor.skip(",\"event\":") ? cursor.text() : std::nullopt;
  if (!event || !(cursor.rest.empty() || cursor.rest.front() == ','))
    return no_line("has no instance and event behind its time");
  line.seq = *seq;
  line.time = *time;
  line.event = *event;
  if (line.event == kGapEvent) line.lost = lines_lost(text);
  return line;
}

std::string_view to_string(Fault fault) {
  switch (fault) {
    case Fault::not_json: return "not JSON";
    case Fault::bad_hash: return "bad hash";
    case Fault::broken_chain: return "broken chain";
    case Fault::gap: return "gap";
    case Fault::repeated: return "repeated number";
    case Fault::torn: return "torn line";
    case Fault::anchor: break;
  }
  return "anchor not met";
}

Result<Anchor> parse_anchor(std::string_view text) {
  const auto colon = text.find(':');
  Cursor cursor{text.substr(0, colon)};
  const bool digits = colon != text.npos && colon > 0;
  const auto seq = digits ? cursor.number() : std::nullopt;
  if (!seq || !cursor.rest.empty() || !is_digest(text.substr(colon + 1)))
    return fail(Error::Kind::bad_input,
                "an anchor is a number, a colon and 64 hexadecimal digits in lower case, such as 123:9f86…");
  return Anchor{*seq, std::string(text.substr(colon + 1))};
}

void Verifier::begin_file(std::string name) {
  end_file();
  file_ = std::move(name);
  line_ = 0;
  ++summary_.files;
}

void Verifier::read(std::string_view bytes) {
  while (!failed() && !bytes.empty()) {
    const auto end = bytes.find('\n');
    const auto piece = bytes.substr(0, end);
    if (rest_.size() + piece.size() >= kMaxLineBytes) {
      ++line_;
      rest_.clear();
      return fail_with(Fault::not_json, "is longer than " + std::to_string(kMaxLineBytes) + " bytes");
    }
    if (end == bytes.npos) {
      rest_.append(piece);
      return;
    }
    if (rest_.empty()) {
      check(piece);
    } else {
      rest_.append(piece);
      check(rest_);
      rest_.clear();
    }
    bytes.remove_prefix(end + 1);
  }
}

void Verifier::end_file() {
  if (!rest_.empty() && !failed()) {
    ++line_;
    fail_with(Fault::torn, "ends without a line feed after " + std::to_string(rest_.size()) + " bytes");
  }
  rest_.clear();
}

Summary Verifier::finish() {
  end_file();
  if (!failed() && anchor_ && !anchor_met_) {
    file_.clear();
    line_ = 0;
    fail_with(Fault::anchor, summary_.last.seq < anchor_->seq
                                 ? "the lines end at " + counted(summary_.last.seq) + ", before line " +
                                       counted(anchor_->seq) + " of the anchor"
                                 : "line " + counted(anchor_->seq) +
                                       " of the anchor is not here; the first is " +
                                       counted(summary_.first_seq));
  }
  return summary_;
}

void Verifier::fail_with(Fault fault, std::string what) {
  summary_.problem = Problem{fault, file_, line_, std::move(what)};
}

void Verifier::check(std::string_view text) {
  ++line_;
  const auto line = parse_line(text);
  if (!line) return fail_with(Fault::not_json, line.error().message);
  const auto number = "line " + counted(line->seq);
  if (!line->sound()) return fail_with(Fault::bad_hash, number + " does not have the hash that it says");
  if (line->lost >= line->seq)
    return fail_with(Fault::gap, number + " says that " + counted(line->lost) + " lines before it were lost");
  const std::uint64_t before = line->seq - 1 - line->lost;
  Link& last = summary_.last;
  if (summary_.lines == 0) {
    // Older files are gone, or this is the beginning.
    last.seq = before;
    if (before > 0) last.hash = line->prev;
    summary_.first_seq = line->seq;
  }
  if (line->seq <= last.seq) return fail_with(Fault::repeated, number + " follows line " + counted(last.seq));
  if (before != last.seq) return fail_with(Fault::gap, number + " follows line " + counted(last.seq));
  if (line->prev != last.hash)
    return fail_with(Fault::broken_chain,
                     before == 0
                         ? number + " is the first of all and does not follow 64 zeros"
                         : number + " follows another line " + counted(before) + " than the one here");
  for (const Link& here : {last, Link{line->seq, std::string(line->hash)}}) {
    if (!anchor_ || anchor_->seq != here.seq) continue;
    if (anchor_->hash != here.hash)
      return fail_with(Fault::anchor, "line " + counted(here.seq) + " has another hash than the anchor");
    anchor_met_ = true;
  }
  last = {line->seq, std::string(line->hash)};
  ++summary_.lines;
  if (line->event == kGapEvent) ++summary_.gaps;
  summary_.lost += line->lost;
}

std::string file_name(std::uint64_t first_seq) {
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "audit-%016llu.jsonl", static_cast<unsigned long long>(first_seq));
  return name.data();
}

std::optional<std::uint64_t> first_seq_of(std::string_view name) {
  std::uint64_t seq = 0;
  constexpr auto kStart = "audit-"sv;
  if (!name.starts_with(kStart)) return {};
  std::from_chars(name.data() + kStart.size(), name.data() + name.size(), seq);
  return seq > 0 && name == file_name(seq) ? std::optional(seq) : std::nullopt;
}

Result<std::vector<std::filesystem::path>> files_in(const std::filesystem::path& directory) {
  std::error_code error;
  std::vector<std::pair<std::uint64_t, std::filesystem::path>> found;
  std::filesystem::directory_iterator entry(directory, error);
  if (error) return tl::unexpected(cannot(directory, "listed", error.value()));
  while (entry != std::filesystem::directory_iterator()) {
    if (const auto seq = first_seq_of(entry->path().filename().string()))
      found.emplace_back(*seq, entry->path());
    entry.increment(error);
    if (error) return tl::unexpected(cannot(directory, "listed", error.value()));
  }
  if (found.empty())
    return fail(Error::Kind::not_found,
                directory.string() + " holds no audit log (no " + file_name(1) + " or the like)");
  std::sort(found.begin(), found.end());
  std::vector<std::filesystem::path> files;
  for (auto& [seq, path] : found) files.push_back(std::move(path));
  return files;
}

Result<Summary> verify(std::span<const std::filesystem::path> files, std::optional<Anchor> anchor) {
  Verifier verifier(std::move(anchor));
  for (const auto& file : files) {
    verifier.begin_file(file.string());
    auto read = read_pieces(file, [&](std::string_view bytes) {
      verifier.read(bytes);
      return !verifier.failed();
    });
    if (!read) return tl::unexpected(read.error());
    if (verifier.failed()) break;
  }
  return verifier.finish();
}

bool matches(const Query& query, std::string_view text) {
  const auto line = parse_line(text);
  if (!line) return false;
  if (!query.event.empty() && ::fnmatch(query.event.c_str(), std::string(line->event).c_str(), 0) != 0)
    return false;
  // Of one width and all in UTC: their order is that of the text.
  if (query.since && line->time < std::string_view(rendered(*query.since))) return false;
  if (query.until && line->time > std::string_view(rendered(*query.until))) return false;
  if (query.fields.empty()) return true;
  const auto record = nlohmann::json::parse(text, nullptr, false);
  return std::all_of(query.fields.begin(), query.fields.end(),
                     [&](const auto& field) { return field_is(record, field.first, field.second); });
}

Result<void> search(std::span<const std::filesystem::path> files, const Query& query,
                    const std::function<bool(std::string_view line)>& found) {
  bool more = true;
  for (const auto& file : files) {
    std::string rest;  // of a line cut by the end of a piece; cleared when it grows past any line of ours
    bool too_long = false;
    auto read = read_pieces(file, [&](std::string_view bytes) {
      for (auto end = bytes.find('\n'); more && end != bytes.npos; end = bytes.find('\n')) {
        rest.append(bytes.substr(0, end));
        if (!too_long && matches(query, rest)) more = found(rest);
        rest.clear();
        too_long = false;
        bytes.remove_prefix(end + 1);
      }
      rest.append(bytes);
      if (rest.size() >= kMaxLineBytes) {
        rest.clear();
        too_long = true;
      }
      return more;
    });
    if (!read || !more) return read;
  }
  return {};
}

}  // namespace audit_chain
