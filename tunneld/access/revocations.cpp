#include "tunneld/access/revocations.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/strict_json.h"
#include "tunneld/access/claims.h"

namespace tunneld::access {
namespace {

using nlohmann::json;
using std::chrono::seconds;
using WallTime = Revocations::WallTime;
using Entry = Revocations::Entry;

constexpr std::size_t kMaxEntries = 100'000;
constexpr std::size_t kMaxFileBytes = 64 * 1024 * 1024;
constexpr std::size_t kMaxIssuerBytes = 1024;
constexpr std::size_t kMaxReasonBytes = 200;
/// The longest lifetime of a token that we believe, and what clocks may differ by.
constexpr seconds kOutlived{24 * 3600 + 300};
/// The year 2255: what a system_clock of nanoseconds holds.
constexpr std::int64_t kMaxSeconds = 9'000'000'000;

bool printable(std::string_view text, std::size_t most) {
  return text.size() <= most &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

std::int64_t unix_seconds(WallTime time) {
  return std::chrono::floor<seconds>(time).time_since_epoch().count();
}

/// What is wrong with it, or nullptr.
const char* fault_of(const Entry& entry) {
  if (entry.token_id.empty()) {
    if (entry.issuer.empty() || entry.subject.empty()) return "needs a jti, or iss, sub and issuedUntil";
    if (!printable(entry.issuer, kMaxIssuerBytes)) return "iss must be at most 1024 bytes of printable ASCII";
    if (!valid_subject(entry.subject)) return "sub must be at most 255 bytes of printable ASCII";
  } else {
    if (!entry.issuer.empty() || !entry.subject.empty() || entry.issued_until != WallTime{})
      return "has both a jti and iss, sub or issuedUntil";
    if (!valid_subject(entry.token_id)) return "jti must be at most 255 bytes of printable ASCII";
  }
  if (!printable(entry.reason, kMaxReasonBytes)) return "reason must be at most 200 bytes of printable ASCII";
  for (const WallTime time : {entry.issued_until, entry.revoked_at})
    if (unix_seconds(time) < 0 || unix_seconds(time) > kMaxSeconds) return "has a time out of range";
  return nullptr;
}

/// Every token it means has expired by itself.
bool outlived(const Entry& entry, WallTime now) {
  return std::max(entry.revoked_at, entry.issued_until) + kOutlived < now;
}

std::string file_text(const std::vector<Entry>& entries) {
  json list = json::array();
  for (const Entry& entry : entries) {
    json one{{"revokedAt", unix_seconds(entry.revoked_at)}};
    if (entry.token_id.empty()) {
      one["iss"] = entry.issuer;
      one["sub"] = entry.subject;
      one["issuedUntil"] = unix_seconds(entry.issued_until);
    } else {
      one["jti"] = entry.token_id;
    }
    if (!entry.reason.empty()) one["reason"] = entry.reason;
    list.push_back(std::move(one));
  }
  return json{{"revoked", std::move(list)}}.dump(1) + "\n";
}

/// The member as a moment; nullopt when it is no whole number of seconds that fits.
std::optional<WallTime> moment(const json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{kMaxSeconds})
    return std::nullopt;
  const auto count = value.get<std::int64_t>();
  if (count < 0) return std::nullopt;
  return WallTime(seconds(count));
}

/// One of the file's entries, or what is wrong with it.
tl::expected<Entry, std::string> entry_from(const json& value, WallTime now) {
  if (!value.is_object()) return tl::unexpected<std::string>("is no object");
  Entry entry;
  entry.revoked_at = now;
  bool until = false;
  for (const auto& [name, member] : value.items()) {
    std::string* const text = name == "jti"      ? &entry.token_id
                              : name == "iss"    ? &entry.issuer
                              : name == "sub"    ? &entry.subject
                              : name == "reason" ? &entry.reason
                                                 : nullptr;
    if (text != nullptr) {
      if (!member.is_string()) return tl::unexpected(name + " must be text");
      *text = member.get<std::string>();
      continue;
    }
    if (name != "issuedUntil" && name != "revokedAt")
      return tl::unexpected<std::string>("holds a name that is none of ours");
    const auto time = moment(member);
    if (!time) return tl::unexpected(name + " must be whole seconds since 1970");
    (name == "issuedUntil" ? entry.issued_until : entry.revoked_at) = *time;
    until = until || name == "issuedUntil";
  }
  if (const char* fault = fault_of(entry)) return tl::unexpected<std::string>(fault);
  // Without it nobody can tell what was meant; with a jti it means nothing.
  if (until == entry.token_id.empty()) return entry;
  return tl::unexpected<std::string>(until ? "has both a jti and issuedUntil" : "needs issuedUntil");
}

}  // namespace

/// Immutable once it is in use.
struct Revocations::Table {
  std::vector<Entry> entries;
  // Ordered: a list that somebody else filled cannot be made slow to look into.
  std::map<std::string, std::size_t, std::less<>> by_token;  // positions in `entries`
  std::map<std::pair<std::string, std::string>, std::size_t> by_subject;

  /// The earlier one and this together: what either revokes stays revoked.
  void put(Entry entry) {
    const auto at = entries.size();
    const auto position = entry.token_id.empty()
                              ? by_subject.emplace(std::pair(entry.issuer, entry.subject), at).first->second
                              : by_token.emplace(entry.token_id, at).first->second;
    if (position == at) {
      entries.push_back(std::move(entry));
      return;
    }
    Entry& known = entries[position];
    known.issued_until = std::max(known.issued_until, entry.issued_until);
    known.revoked_at = std::max(known.revoked_at, entry.revoked_at);
    if (!entry.reason.empty()) known.reason = std::move(entry.reason);
  }

  /// The file's list without what has outlived its purpose. No file: an empty list.
  static Result<std::shared_ptr<Table>> read(const std::filesystem::path& file, WallTime now) {
    auto table = std::make_shared<Table>();
    const auto text = config::read_file(file, kMaxFileBytes);
    if (!text && text.error().kind == Error::Kind::not_found) return table;
    if (!text) return fail(Error::Kind::bad_input, text.error().message);
    const auto bad = [&](const std::string& why) {
      return fail(Error::Kind::bad_input, file.string() + ": " + why);
    };
    const auto parsed = parse_strict_json(*text, kMaxFileBytes, 4);
    if (!parsed) return bad(parsed.error().message);
    if (!parsed->is_object() || parsed->size() != 1 || !parsed->contains("revoked") ||
        !parsed->at("revoked").is_array())
      return bad("must be an object of one list, \"revoked\"");
    const json& list = parsed->at("revoked");
    for (std::size_t i = 0; i < list.size(); ++i) {
      auto entry = entry_from(list[i], now);
      if (!entry) return bad("revoked[" + std::to_string(i) + "] " + entry.error());
      if (!outlived(*entry, now)) table->put(std::move(*entry));
    }
    if (table->entries.size() > kMaxEntries) return bad("holds more than 100000 entries");
    return table;
  }
};

Revocations::Revocations(std::filesystem::path file)
    : file_(std::move(file)), table_(std::make_shared<Table>()) {}
Revocations::~Revocations() = default;

Result<std::unique_ptr<Revocations>> Revocations::open(std::filesystem::path file, WallTime now) {
  std::unique_ptr<Revocations> revocations(new Revocations(std::move(file)));
  if (auto loaded = revocations->reload(now); !loaded) return tl::unexpected(loaded.error());
  return revocations;
}

std::shared_ptr<const Revocations::Table> Revocations::table() const {
  const std::lock_guard lock(mutex_);
  return table_;
}

void Revocations::use(std::shared_ptr<const Table> table) {
  {
    const std::lock_guard lock(mutex_);
    empty_.store(table->entries.empty(), std::memory_order_release);
    table_.swap(table);
  }
  version_.fetch_add(1, std::memory_order_acq_rel);
}

Result<void> Revocations::reload(WallTime now) {
  const std::lock_guard lock(changing_);
  auto read = Table::read(file_, now);
  if (!read) return tl::unexpected(read.error());
  use(std::move(*read));
  return {};
}

Result<void> Revocations::add(Entry entry, WallTime now) {
  entry.revoked_at = now;
  if (entry.token_id.empty() && entry.issued_until == WallTime{}) entry.issued_until = now;
  if (const char* fault = fault_of(entry))
    return fail(Error::Kind::bad_input, std::string("revocation ") + fault);
  entry.revoked_at = std::chrono::floor<seconds>(entry.revoked_at);
  entry.issued_until = std::chrono::floor<seconds>(entry.issued_until);

  const std::lock_guard lock(changing_);
  auto read = Table::read(file_, now);
  if (!read) return tl::unexpected(read.error());
  Table& next = **read;
  // A file that went missing must not forgive what we know.
  for (const Entry& known : table()->entries)
    if (!outlived(known, now)) next.put(known);
  next.put(std::move(entry));
  if (next.entries.size() > kMaxEntries)
    return fail(Error::Kind::unavailable, file_.string() + ": holds 100000 entries already");
  const std::string text = file_text(next.entries);
  if (text.size() > kMaxFileBytes)
    return fail(Error::Kind::unavailable, file_.string() + ": would be larger than can be read again");
  if (auto written = atomic_file::write(file_, text, 0600); !written) return written;
  use(std::move(*read));
  return {};
}

bool Revocations::revoked(const tunnel::Principal& principal) const {
  if (empty_.load(std::memory_order_acquire)) return false;
  const auto list = table();
  if (!principal.token_id.empty() && list->by_token.contains(principal.token_id)) return true;
  if (list->by_subject.empty()) return false;
  const auto found = list->by_subject.find({principal.issuer, principal.subject});
  // Without `iat` it counts as issued at the epoch: nobody can show that it is newer.
  return found != list->by_subject.end() &&
         std::chrono::floor<seconds>(principal.issued_at) <= list->entries[found->second].issued_until;
}

std::vector<Revocations::Entry> Revocations::list() const {
  return table()->entries;
}

}  // namespace tunneld::access
