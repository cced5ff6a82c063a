#include "tunneld/upstream/agent_enrolments.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <system_error>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/file_descriptor.h"
#include "common/strict_json.h"
#include "tunneld/ssh/host_keys.h"
#include "tunneld/upstream/agent_announcement.h"

namespace tunneld::upstream {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxFileBytes = 64 * 1024 * 1024;
constexpr int kVersion = 1;
/// Up to so many the whole file is written for each: a page or two, and one file to look at.
constexpr std::size_t kFew = 64;

/// The members of an entry that are text, or what is wrong with it.
tl::expected<std::array<std::string, 4>, std::string> texts_of(const json& value) {
  std::array<std::string, 4> texts;
  constexpr std::array kNames{"issuer", "subject", "agentId", "fingerprint"};
  if (!value.is_object()) return tl::unexpected<std::string>("is no object");
  for (std::size_t at = 0; at < kNames.size(); ++at) {
    const auto found = value.find(kNames[at]);
    if (found == value.end() || !found->is_string())
      return tl::unexpected(std::string(kNames[at]) + " must be text");
    texts[at] = found->get<std::string>();
  }
  if (!valid_agent_id(texts[2])) return tl::unexpected<std::string>("agentId must be 1 to 63 of a-z 0-9 -");
  if (auto good = ssh::check_fingerprint(texts[3]); !good)
    return tl::unexpected("fingerprint " + good.error().message);
  return texts;
}

}  // namespace

tl::expected<AgentEnrolments::Entries::value_type, std::string> AgentEnrolments::parse_entry(
    const json& value) {
  auto texts = texts_of(value);
  if (!texts) return tl::unexpected(std::move(texts.error()));
  const auto since = value.find("since");
  if (since == value.end() || !since->is_number_integer())
    return tl::unexpected<std::string>("since must be whole seconds since 1970");
  auto& [issuer, subject, agent_id, fingerprint] = *texts;
  return Entries::value_type{{{std::move(issuer), std::move(subject)}, std::move(agent_id)},
                             {std::move(fingerprint), since->get<std::int64_t>()}};
}

Result<AgentEnrolments> AgentEnrolments::read(std::filesystem::path file) {
  AgentEnrolments enrolments(file);
  const auto bad = [&file](const std::string& why) {
    return fail(Error::Kind::bad_input, file.string() + ": " + why);
  };
  const auto text = config::read_file(file, kMaxFileBytes);
  if (!text && text.error().kind == Error::Kind::not_found) return enrolments;
  if (!text) return fail(Error::Kind::bad_input, text.error().message);
  const auto parsed = parse_strict_json(*text, kMaxFileBytes, 4);
  if (!parsed) return bad(parsed.error().message);
  if (!parsed->is_object() || parsed->value("version", json()) != json(kVersion))
    return bad("must be an object of version 1");
  const auto list = parsed->find("enrolments");
  if (list == parsed->end() || !list->is_array()) return bad("needs a list, \"enrolments\"");
  for (std::size_t at = 0; at < list->size(); ++at) {
    const auto where = "enrolments[" + std::to_string(at) + "] ";
    auto entry = parse_entry((*list)[at]);
    if (!entry) return bad(where + entry.error());
    if (!enrolments.entries_.insert(std::move(*entry)).second) return bad(where + "is there twice");
  }
  if (auto added = enrolments.read_additions(); !added) return tl::unexpected(added.error());
  return enrolments;
}

/// What the whole file has as well was put there by a write that was interrupted before it removed the lines.
Result<void> AgentEnrolments::read_additions() {
  const auto file = additions_file();
  const auto text = config::read_file(file, kMaxFileBytes);
  if (!text && text.error().kind == Error::Kind::not_found) return {};
  if (!text) return fail(Error::Kind::bad_input, text.error().message);
  additions_are_old_ = true;
  std::string_view rest = *text;
  // Nobody was told yet that a line without its end had been written.
  for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
    const auto where = file.string() + ":" + std::to_string(++added_) + ": ";
    const auto parsed = parse_strict_json(rest.substr(0, end), kMaxFileBytes, 2);
    rest.remove_prefix(end + 1);
    if (!parsed) return fail(Error::Kind::bad_input, where + parsed.error().message);
    auto entry = parse_entry(*parsed);
    if (!entry) return fail(Error::Kind::bad_input, where + entry.error());
    entries_.insert(std::move(*entry));
  }
  return {};
}

const std::string* AgentEnrolments::fingerprint(const tunnel::Principal& principal,
                                                const std::string& agent_id) const {
  const auto found = entries_.find({{principal.issuer, principal.subject}, agent_id});
  return found == entries_.end() ? nullptr : &found->second.fingerprint;
}

std::size_t AgentEnrolments::count(const tunnel::Principal& principal) const {
  const std::pair whose{principal.issuer, principal.subject};
  const auto first = entries_.lower_bound({whose, ""});
  const auto end =
      std::find_if(first, entries_.end(), [&whose](const auto& e) { return e.first.first != whose; });
  return static_cast<std::size_t>(std::distance(first, end));
}

Result<void> AgentEnrolments::add(const tunnel::Principal& principal, const std::string& agent_id,
                                  const std::string& fingerprint,
                                  std::chrono::system_clock::time_point since) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since).time_since_epoch().count();
  const auto [at, fresh] =
      entries_.try_emplace({{principal.issuer, principal.subject}, agent_id}, Entry{fingerprint, seconds});
  if (!fresh) return fail(Error::Kind::bug, "agent " + agent_id + " is enrolled already");
  auto written = may_append() ? append(*at) : write_whole();
  if (!written) entries_.erase(at);
  return written;
}

/// Half as many as there are: the whole is then written as often as the number grows by half.
bool AgentEnrolments::may_append() const {
  return !additions_are_old_ && entries_.size() > kFew && added_ < entries_.size() / 2;
}

Result<void> AgentEnrolments::append(const Entries::value_type& enrolment) {
  const auto file = additions_file();
  const FileDescriptor lines(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const auto line = json_of(enrolment.first, enrolment.second).dump() + "\n";
  const bool first = added_ == 0;
  if (lines.get() >= 0 && write_all(lines.get(), line) && ::fdatasync(lines.get()) == 0) {
    ++added_;
    // The name of a new file has to reach the disk as well.
    if (!first || sync_folder(file.parent_path())) return {};
  }
  const int error = errno;
  // A torn line would swallow the next one.
  additions_are_old_ = true;
  if (lines.get() >= 0 && first) ::unlink(file.c_str());
  return fail(Error::Kind::unavailable,
              file.string() + ": cannot write: " + std::generic_category().message(error));
}

Result<void> AgentEnrolments::write_whole() {
  if (auto written = atomic_file::write(file_, text(), 0600); !written) return written;
  ::unlink(additions_file().c_str());  // what it has is in the whole, should it stay
  added_ = 0;
  additions_are_old_ = false;
  return {};
}

Result<void> AgentEnrolments::remove(const tunnel::Principal& principal, const std::string& agent_id) {
  // First the lines go, so that no interruption brings it back from there.
  if (added_ > 0 || additions_are_old_) {
    if (auto written = write_whole(); !written) return written;
  }
  auto taken = entries_.extract({{principal.issuer, principal.subject}, agent_id});
  if (taken.empty()) return fail(Error::Kind::bug, "agent " + agent_id + " is not enrolled");
  auto written = write_whole();
  if (!written) entries_.insert(std::move(taken));
  return written;
}

std::optional<tunnel::Principal> AgentEnrolments::owner(std::string_view principal_hash,
                                                        const std::string& agent_id) const {
  for (const auto& [name, entry] : entries_) {
    if (name.second != agent_id) continue;
    tunnel::Principal principal;
    principal.issuer = name.first.first;
    principal.subject = name.first.second;
    if (tunnel::principal_hash(principal.key()) == principal_hash) return principal;
  }
  return std::nullopt;
}

nlohmann::json AgentEnrolments::json_of(const Name& name, const Entry& entry) {
  return {{"issuer", name.first.first},
          {"subject", name.first.second},
          {"agentId", name.second},
          {"fingerprint", entry.fingerprint},
          {"since", entry.since}};
}

std::string AgentEnrolments::text() const {
  json list = json::array();
  for (const auto& [name, entry] : entries_) list.push_back(json_of(name, entry));
  return json{{"version", kVersion}, {"enrolments", std::move(list)}}.dump(1) + "\n";
}

}  // namespace tunneld::upstream
