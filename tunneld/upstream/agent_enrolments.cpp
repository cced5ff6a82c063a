#include "tunneld/upstream/agent_enrolments.h"

#include <algorithm>
#include <iterator>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/strict_json.h"
#include "tunneld/ssh/host_keys.h"
#include "tunneld/upstream/agent_announcement.h"

namespace tunneld::upstream {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxFileBytes = 64 * 1024 * 1024;
constexpr int kVersion = 1;

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
    const json& value = (*list)[at];
    auto texts = texts_of(value);
    if (!texts) return bad(where + texts.error());
    const auto since = value.find("since");
    if (since == value.end() || !since->is_number_integer())
      return bad(where + "since must be whole seconds since 1970");
    auto& [issuer, subject, agent_id, fingerprint] = *texts;
    const Name name{{std::move(issuer), std::move(subject)}, std::move(agent_id)};
    const Entry entry{std::move(fingerprint), since->get<std::int64_t>()};
    if (!enrolments.entries_.emplace(name, entry).second) return bad(where + "is there twice");
  }
  return enrolments;
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
  auto written = atomic_file::write(file_, text(), 0600);
  if (!written) entries_.erase(at);
  return written;
}

std::string AgentEnrolments::text() const {
  json list = json::array();
  for (const auto& [name, entry] : entries_)
    list.push_back({{"issuer", name.first.first},
                    {"subject", name.first.second},
                    {"agentId", name.second},
                    {"fingerprint", entry.fingerprint},
                    {"since", entry.since}});
  return json{{"version", kVersion}, {"enrolments", std::move(list)}}.dump(1) + "\n";
}

}  // namespace tunneld::upstream
