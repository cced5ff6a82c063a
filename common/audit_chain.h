#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/log.h"
#include "common/result.h"

/// The lines of an audit log: how they are made, checked and searched. No state, no clock; tunneld writes
/// them (tunneld/audit), tunnelctl checks them.
///
/// A line is one JSON object with its members in this order and no spaces between them:
///
///     {"seq":7,"time":"2026-01-02T03:04:05.678Z","instanceId":"edge-1","event":"auth.failed",
///      <fields>,"prev":"<64 hex digits>","hash":"<64 hex digits>"}
///
/// (in one line, ended by a line feed). `hash` is the SHA-256 of the line's bytes before `,"hash":"`; without
/// a tool: `head -c -76 <<<"$line" | sha256sum` (76: the last member, the brace and the line feed). `prev` is
/// the hash of the line before; 64 zeros before the first line of all, which has the number 1. Numbers grow
/// by one over files and restarts. The one exception is `audit.gap`: its field `lines` says how many lines
/// before it were lost, and its number is that much higher.
///
/// A changed, missing, added or moved line breaks the chain. It is evidence, not proof, against somebody who
/// may write the files: whoever can compute every hash anew from some line on, or cut lines off the end,
/// leaves a chain that verifies. Compare it with an Anchor that was kept elsewhere.
namespace audit_chain {

inline constexpr std::size_t kMaxLineBytes = 16 * 1024;  // with the line feed
inline constexpr std::string_view kGapEvent = "audit.gap";

/// The last line so far.
struct Link {
  std::uint64_t seq = 0;  // 0: none
  std::string hash = std::string(64, '0');
  bool operator==(const Link&) const = default;
};

// --- writing

struct Entry {
  std::chrono::system_clock::time_point time;
  std::string_view instance_id;
  std::string_view event;
  logging::Fields fields;
};
/// Appends what a line says, from `"time"` to its last field; costs no hash and may be done ahead, in another
/// thread. Texts are treated as in the program's log: broken UTF-8 becomes U+FFFD, more than
/// logging::kMaxValueBytes is cut. A field named like a member of every line gets a `_` behind its name;
/// fields that do not fit are left out, and `"truncated":true` says so.
void append_body(std::string& out, const Entry& entry);
/// Appends the line after `last`, with its line feed, and moves `last` on to it. `lost`: lines missing before
/// it; the body is then that of an audit.gap with as many `lines`.
void append_line(std::string& out, std::string_view body, Link& last, std::uint64_t lost = 0);

// --- reading

/// A line taken apart; views into its text. Not yet believed.
struct Line {
  std::uint64_t seq = 0;
  std::string_view time;    // "2026-01-02T03:04:05.678Z"
  std::string_view event;   // as it stands between the quotes
  std::string_view prev;    // 64 lower-case hexadecimal digits
  std::string_view hash;    // the same
  std::string_view hashed;  // the bytes that `hash` is of
  std::uint64_t lost = 0;   // audit.gap: its `lines`
  bool sound() const;       // `hash` is right
};
/// `text` without its line feed. Fails with bad_input, saying why it is no such line.
Result<Line> parse_line(std::string_view text);

enum class Fault { not_json, bad_hash, broken_chain, gap, repeated, torn, anchor };
/// "not JSON", "bad hash", "broken chain", "gap", "repeated number", "torn line", "anchor not met".
std::string_view to_string(Fault fault);

/// The first thing that is wrong.
struct Problem {
  Fault fault = Fault::not_json;
  std::string file;
  std::uint64_t line = 0;  // from 1; 0: nothing in a file, but the end of all
  std::string what;        // a sentence with the numbers
};

/// A line's number and hash, noted somewhere else at the time (tunneld logs one each hour).
struct Anchor {
  std::uint64_t seq = 0;
  std::string hash;
};
/// "123:<64 hex digits>". Fails with bad_input.
Result<Anchor> parse_anchor(std::string_view text);

struct Summary {
  std::uint64_t files = 0;
  std::uint64_t lines = 0;      // good ones, before the problem if there is one
  std::uint64_t first_seq = 0;  // above 1 where older files were deleted; what came before is then unknown
  Link last;
  std::uint64_t gaps = 0;  // audit.gap lines
  std::uint64_t lost = 0;  // lines that those say are missing
  std::optional<Problem> problem;
};

/// Checks lines that arrive in pieces. Stops at the first problem: what comes after it is not looked at.
class Verifier {
 public:
  explicit Verifier(std::optional<Anchor> anchor = {}) : anchor_(std::move(anchor)) {}

  /// The next file; the one before ended.
  void begin_file(std::string name);
  void read(std::string_view bytes);
  /// Ends the last file.
  Summary finish();
  bool failed() const { return summary_.problem.has_value(); }

 private:
  void end_file();
  void check(std::string_view text);
  void fail_with(Fault fault, std::string what);

  std::optional<Anchor> anchor_;
  bool anchor_met_ = false;
  Summary summary_;
  std::string file_;
  std::uint64_t line_ = 0;
  std::string rest_;  // of a line that has not ended; at most kMaxLineBytes
};

/// The files of an audit log in their order, the one being written last. Fails with not_found (no such
/// directory, or none in it) or denied.
Result<std::vector<std::filesystem::path>> files_in(const std::filesystem::path& directory);
/// The name of the file whose first line has this number, and the number that a name says.
std::string file_name(std::uint64_t first_seq);
std::optional<std::uint64_t> first_seq_of(std::string_view file_name);

/// Checks files as one chain, in the order given. Fails with not_found or denied when one cannot be read;
/// what is wrong inside is in the summary.
Result<Summary> verify(std::span<const std::filesystem::path> files, std::optional<Anchor> anchor = {});

/// What to look for; all of it must hold.
struct Query {
  std::string event;  // a glob as in a shell ("auth.*"); empty: any
  /// Name and value. Texts are compared as they are, numbers and switches as written in the line.
  std::vector<std::pair<std::string, std::string>> fields;
  std::optional<std::chrono::system_clock::time_point> since, until;  // both included; milliseconds
};
/// False too when the line is none.
bool matches(const Query& query, std::string_view line);
/// Calls `found` with each matching line (without its line feed), oldest first, until it returns false.
/// Damaged lines are passed over: verify is there to find them. Fails as verify does.
Result<void> search(std::span<const std::filesystem::path> files, const Query& query,
                    const std::function<bool(std::string_view line)>& found);

}  // namespace audit_chain
