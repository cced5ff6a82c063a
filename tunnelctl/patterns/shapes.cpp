#include "tunnelctl/patterns/shapes.h"

#include <algorithm>
#include <array>

#include "tunnelctl/patterns/characters.h"

namespace tunnelctl::patterns {

namespace {

/// Takes pieces from a text; a failed take may leave it anywhere, so takers start from a copy.
class Reader {
 public:
  Reader(std::string_view text, std::size_t at)
      : whole_(text), text_(text.substr(0, std::min(text.size(), at + kLongestShape))), begin_(at), at_(at) {}

  char peek(std::size_t ahead = 0) const { return byte_at(text_, at_ + ahead); }
  std::size_t taken() const { return at_ - begin_; }
  /// Nothing follows that would make it another word.
  bool ends() const { return !is(byte_at(whole_, at_), kWord); }

  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }
  bool take_one_of(std::string_view wanted) {
    if (peek() == '\0' || wanted.find(peek()) == std::string_view::npos) return false;
    ++at_;
    return true;
  }
  /// Between `least` and `most` digits, as many as there are; false too when the number is above `limit`.
  bool digits(std::size_t least, std::size_t most, unsigned limit = 999'999'999) {
    std::size_t count = 0;
    unsigned value = 0;
    for (; count < most && is(peek(), kDigit); ++count, ++at_)
      value = value * 10 + static_cast<unsigned>(peek() - '0');
    return count >= least && value <= limit;
  }
  void all_digits() {
    while (is(peek(), kDigit)) ++at_;
  }
  bool name_of(const auto& names) {
    for (const std::string_view name : names)
      if (take(name)) return true;
    return false;
  }

 private:
  std::string_view whole_;
  std::string_view text_;  // as far as it may be read
  std::size_t begin_;
  std::size_t at_;
};

constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
constexpr std::array<std::string_view, 7> kWeekdays = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

/// Longer ones before their beginnings.
constexpr std::array<std::string_view, 40> kUnits = {
    "msecs", "msec", "ms",  "min", "mins", "mi", "ns", "us",  "\xC2\xB5s", "\xCE\xBCs",
    "secs",  "sec",  "s",   "m",   "hrs",  "h",  "d",  "KiB", "MiB",       "GiB",
    "TiB",   "Ki",   "Mi",  "Gi",  "kB",   "KB", "MB", "GB",  "TB",        "kbps",
    "Mbps",  "Gbps", "bps", "B/s", "B",    "k",  "K",  "M",   "G",         "%"};

bool take_fraction(Reader& reader) {
  if ((reader.peek() == '.' || reader.peek() == ',') && is(reader.peek(1), kDigit)) {
    reader.take_one_of(".,");
    return reader.digits(1, 9);
  }
  return true;
}

/// 15:04, 15:04:05, 15:04:05.000.
bool take_clock(Reader& reader, bool seconds_needed) {
  if (!reader.digits(1, 2, 24) || !reader.take(':') || !reader.digits(2, 2, 59)) return false;
  if (reader.peek() != ':') return !seconds_needed;
  return reader.take(':') && reader.digits(2, 2, 60) && take_fraction(reader);
}

/// Z, +02:00, +0200, each also behind a blank, UTC, GMT. None is fine too.
void take_zone(Reader& reader) {
  if (reader.peek() == 'Z') {
    reader.take('Z');
    return;
  }
  Reader with = reader;
  with.take(' ');
  Reader named = with;
  if ((named.take("UTC") || named.take("GMT")) && named.ends()) {
    reader = named;
  } else if (with.take_one_of("+-") && with.digits(2, 2, 14) && (with.take(':'), with.digits(2, 2, 59)) &&
             with.ends()) {
    reader = with;
  }
}

/// What may follow a date: a clock after one of `between`, with its zone.
void take_clock_behind_date(Reader& reader, std::string_view between) {
  Reader with = reader;
  if (with.take_one_of(between) && take_clock(with, false)) {
    take_zone(with);
    reader = with;
  }
}

bool take_month_first(Reader& reader) {  // Jan  2 15:04:05 2006
  if (!reader.name_of(kMonths) || !reader.take(' ')) return false;
  reader.take(' ');
  if (!reader.digits(1, 2, 31) || !reader.take(' ') || !take_clock(reader, true)) return false;
  take_zone(reader);
  Reader with = reader;
  if (with.take(' ') && with.digits(4, 4) && with.ends()) reader = with;
  return true;
}

bool take_day_first(Reader& reader) {  // 02/Jan/2006:15:04:05 +0000, 02 Jan 2006 15:04:05 GMT, 02-Jan-2006
  if (!reader.digits(1, 2, 31)) return false;
  const char between = reader.peek();
  if (!reader.take_one_of("/ -.")) return false;
  if (is(reader.peek(), kDigit)) {  // 02/01/2006, 02.01.2006: never with blanks, those are just numbers
    if (between == ' ' || !reader.digits(2, 2, 31) || !reader.take(between)) return false;
  } else if (!reader.name_of(kMonths) || !reader.take(between)) {
    return false;
  }
  if (!reader.digits(4, 4)) return false;
  take_clock_behind_date(reader, ": T");
  return true;
}

bool take_year_first(Reader& reader) {  // 2006-01-02T15:04:05.000Z, 2006/01/02 15:04:05
  if (!reader.digits(4, 4)) return false;
  const char between = reader.peek();
  if (!reader.take_one_of("-/.") || !reader.digits(2, 2, 12) || !reader.take(between) ||
      !reader.digits(2, 2, 31))
    return false;
  take_clock_behind_date(reader, "T _");
  return true;
}

bool take_weekday_first(Reader& reader) {
  if (!reader.name_of(kWeekdays)) return false;
  reader.take(',');
  if (!reader.take(' ')) return false;
  return is(reader.peek(), kDigit) ? take_day_first(reader) : take_month_first(reader);
}

bool take_clock_alone(Reader& reader) {
  if (!take_clock(reader, true)) return false;
  take_zone(reader);
  return reader.peek() != ':';
}

std::size_t accepted(std::string_view text, std::size_t at, bool (*take)(Reader&)) {
  Reader reader(text, at);
  return take(reader) && reader.ends() ? reader.taken() : 0;
}

bool is_hex_run(std::string_view text, std::size_t at, std::size_t length) {
  for (std::size_t i = 0; i < length; ++i)
    if (!is(byte_at(text, at + i), kHex)) return false;
  return true;
}

}  // namespace

std::size_t uuid_at(std::string_view text, std::size_t at) {
  constexpr std::size_t kLength = 36;
  if (text.size() < at + kLength || is(byte_at(text, at + kLength), kWord)) return 0;
  for (const std::size_t dash : {8U, 13U, 18U, 23U})
    if (text[at + dash] != '-') return 0;
  return is_hex_run(text, at, 8) && is_hex_run(text, at + 9, 4) && is_hex_run(text, at + 14, 4) &&
                 is_hex_run(text, at + 19, 4) && is_hex_run(text, at + 24, 12)
             ? kLength
             : 0;
}

std::size_t ipv4_at(std::string_view text, std::size_t at) {
  Reader reader(text, at);
  for (int part = 0; part < 4; ++part)
    if ((part > 0 && !reader.take('.')) || !reader.digits(1, 3, 255) || is(reader.peek(), kDigit)) return 0;
  // "[" here and below: the mark of a token that was redacted.
  if (!reader.ends() || (reader.peek() == '.' && (is(reader.peek(1), kDigit) || reader.peek(1) == '[')))
    return 0;
  Reader with = reader;
  if (with.take('/') && with.digits(1, 2, 32) && with.ends()) return with.taken();
  return reader.taken();
}

std::size_t ipv6_at(std::string_view text, std::size_t at) {
  std::size_t here = at, groups = 0;
  bool gap = false;
  if (byte_at(text, at) == ':' && byte_at(text, at + 1) == ':') {
    gap = true;
    here += 2;
  }
  while (groups < 8) {
    std::size_t length = 0;
    while (length < 5 && is(byte_at(text, here + length), kHex)) ++length;
    if (length == 0) break;
    if (byte_at(text, here + length) == '.' && (gap || groups == 6)) {  // the last 32 bits as IPv4
      const std::size_t tail = ipv4_at(text, here);
      if (tail == 0) return 0;
      here += tail;
      groups += 2;
      break;
    }
    if (length > 4) return 0;
    ++groups;
    here += length;
    if (byte_at(text, here) != ':') break;
    if (byte_at(text, here + 1) == ':') {
      if (gap) return 0;
      gap = true;
      here += 2;
    } else if (is(byte_at(text, here + 1), kHex)) {
      ++here;
    } else {
      break;  // a colon of the sentence
    }
  }
  if (gap ? groups == 0 || groups > 7 : groups != 8) return 0;
  if (is(byte_at(text, here), kWord) || byte_at(text, here) == '[' ||
      (byte_at(text, here) == ':' && (is(byte_at(text, here + 1), kWord) || byte_at(text, here + 1) == '[')))
    return 0;
  std::size_t end = here;
  if (byte_at(text, end) == '%') {  // the zone of a link-local address
    ++end;
    while (end < here + 17 && is(byte_at(text, end), kWord)) ++end;
    if (end == here + 1 || is(byte_at(text, end), kWord)) end = here;
  } else if (byte_at(text, end) == '/' && is(byte_at(text, end + 1), kDigit)) {
    ++end;
    while (end < here + 4 && is(byte_at(text, end), kDigit)) ++end;
    if (is(byte_at(text, end), kWord)) end = here;
  }
  return end - at;
}

std::size_t mac_at(std::string_view text, std::size_t at) {
  constexpr std::size_t kFewest = 6, kMost = 32;
  const char between = byte_at(text, at + 2);
  if (between != ':' && between != '-') return 0;
  std::size_t groups = 0, end = at;
  while (groups < kMost && is_hex_run(text, end, 2)) {
    ++groups;
    end += 2;
    if (byte_at(text, end) != between || !is(byte_at(text, end + 1), kHex)) break;
    ++end;
  }
  return groups < kFewest || is(byte_at(text, end), kWord) || byte_at(text, end - 1) == between ? 0
                                                                                                : end - at;
}

std::size_t time_at(std::string_view text, std::size_t at) {
  const char first = byte_at(text, at);
  if (is(first, kUpper)) {
    const auto month = accepted(text, at, take_month_first);
    return month != 0 ? month : accepted(text, at, take_weekday_first);
  }
  if (!is(first, kDigit)) return 0;
  // Which form it can be is told by what follows the first digits.
  std::size_t length = 1;
  while (length < 5 && is(byte_at(text, at + length), kDigit)) ++length;
  if (length == 4) return accepted(text, at, take_year_first);
  if (length > 2) return 0;
  return byte_at(text, at + length) == ':' ? accepted(text, at, take_clock_alone)
                                           : accepted(text, at, take_day_first);
}

std::size_t number_at(std::string_view text, std::size_t at) {
  Reader reader(text, at);
  if (!is(reader.peek(), kDigit)) return 0;
  for (;;) {
    reader.all_digits();
    while ((reader.peek() == '.' || reader.peek() == ',') && is(reader.peek(1), kDigit)) {
      reader.take_one_of(".,");
      reader.all_digits();
    }
    if (lower(reader.peek()) == 'e') {
      Reader with = reader;
      with.take_one_of("eE");
      with.take_one_of("+-");
      if (is(with.peek(), kDigit)) {
        with.all_digits();
        reader = with;
      }
    }
    Reader bare = reader;
    if (!bare.ends() || bare.peek() == '%') {
      for (const auto unit : kUnits) {
        Reader with = bare;
        // A unit ends the word, or the next number of "1h2m" follows.
        if (with.take(unit) && (with.ends() || is(with.peek(), kDigit))) {
          reader = with;
          break;
        }
      }
    }
    if (reader.ends()) return reader.taken();
    if (!is(reader.peek(), kDigit) || reader.taken() == bare.taken()) return 0;
  }
}

std::size_t mail_host_at(std::string_view text, std::size_t at) {
  constexpr std::array<std::string_view, 9> kSystemd = {"service", "socket", "timer", "target", "slice",
                                                        "scope",   "mount",  "path",  "device"};
  std::size_t end = at, label = at;
  for (; end < text.size(); ++end) {
    const char c = text[end];
    if (c == '.' && is(byte_at(text, end + 1), kWord)) {
      label = end + 1;
    } else if (c == '_' || (c != '-' && !is(c, kWord))) {
      break;
    }
  }
  while (end > label && text[end - 1] == '-') --end;
  if (label == at || end < label + 2 || is(text[label], kDigit)) return 0;
  const auto top = text.substr(label, end - label);
  for (const auto unit : kSystemd)
    if (same_word(top, unit)) return 0;
  return end - at;
}

}  // namespace tunnelctl::patterns
