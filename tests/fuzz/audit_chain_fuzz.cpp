// An audit log as somebody may have left it. Input: one byte for the way in, then the bytes.
//   0  files to verify and search, as they are; a byte 0x1E begins the next file
//   1  what a program writes: event, instance and fields, 0x1E between; lines made of them are a whole chain
#include "common/audit_chain.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace {

using namespace audit_chain;

constexpr char kBetween = '\x1e';

void require(bool holds) {
  if (!holds) std::abort();
}

std::vector<std::string_view> parts(std::string_view text) {
  std::vector<std::string_view> out;
  for (;;) {
    const auto end = text.find(kBetween);
    out.push_back(text.substr(0, end));
    if (end == text.npos) return out;
    text.remove_prefix(end + 1);
  }
}

Summary verified(const std::vector<std::string_view>& files, std::size_t piece) {
  Verifier verifier;
  for (const auto file : files) {
    verifier.begin_file("f");
    for (auto rest = file; !rest.empty(); rest.remove_prefix(std::min(piece, rest.size())))
      verifier.read(rest.substr(0, piece));
  }
  return verifier.finish();
}

void require_same(const Summary& one, const Summary& other) {
  require(one.lines == other.lines && one.last == other.last && one.lost == other.lost &&
          one.gaps == other.gaps);
  require(one.problem.has_value() == other.problem.has_value());
  if (!one.problem) return;
  require(one.problem->fault == other.problem->fault && one.problem->line == other.problem->line);
}

/// The verdict does not depend on how the bytes arrive, and a line that was believed is one that adds up.
void read_files(std::string_view input) {
  const auto files = parts(input);
  const auto whole = verified(files, std::max<std::size_t>(input.size(), 1));
  require_same(whole, verified(files, 7));
  require(whole.lines <= static_cast<std::uint64_t>(std::count(input.begin(), input.end(), '\n')));
  require(whole.gaps <= whole.lines);
  if (whole.lines > 0)
    require(whole.last.seq == whole.first_seq + (whole.lines - 1) + whole.lost || whole.gaps > 0);
  for (auto rest = input; !rest.empty();) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const auto text = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const auto line = parse_line(text);
    require(matches({.event = "*", .fields = {}, .since = {}, .until = {}}, text) == line.has_value());
    if (!line) continue;
    require(nlohmann::json::accept(text));
    require(line->hash.size() == 64 && line->prev.size() == 64 && line->seq > 0);
    static_cast<void>(line->sound());
  }
}

/// Whatever the texts hold, lines are one line each, verify, and say what they were given.
void write_lines(std::string_view input) {
  const auto texts = parts(input);
  Link last;
  std::string out;
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i + 3 < texts.size(); i += 4) {
    std::string body;
    append_body(body, {std::chrono::system_clock::time_point{},
                       texts[i],
                       texts[i + 1],
                       {{texts[i + 2], texts[i + 3]}, {"number", i}}});
    const std::size_t start = out.size();
    append_line(out, body, last);
    require(out.size() - start <= kMaxLineBytes && out.back() == '\n');
    ++expected;
    const auto line = parse_line(std::string_view(out).substr(start, out.size() - start - 1));
    require(line.has_value() && line->sound() && line->seq == expected);
  }
  const auto summary = verified({out}, 1000);
  if (summary.problem) require(summary.problem->fault == Fault::gap);  // an event may call itself audit.gap
  if (!summary.problem) require(summary.lines == expected);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    read_files(rest);
  } else {
    write_lines(rest);
  }
  return 0;
}
