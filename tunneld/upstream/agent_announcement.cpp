#include "tunneld/upstream/agent_announcement.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <utility>

#include <boost/asio/ip/address_v6.hpp>
#include <nlohmann/json.hpp>

#include "common/strict_json.h"
#include "tunnel/request_path.h"
#include "tunneld/ssh/identity.h"

namespace tunneld::upstream {
namespace {

using nlohmann::json;
using tunnel::Code;
using tunnel::refuse;

constexpr std::size_t kMaxMessageBytes = 16 * 1024;
constexpr std::size_t kMaxDepth = 8;
constexpr std::size_t kMaxHostBytes = 253;

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_name_character(char c) {
  return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
}

bool consists_of(std::string_view text, std::size_t least, std::size_t most, bool (*allowed)(char)) {
  return text.size() >= least && text.size() <= most && std::all_of(text.begin(), text.end(), allowed);
}

bool valid_boot_id(std::string_view text) {
  return consists_of(text, 32, 32, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
}

bool valid_host(const std::string& host) {
  if (host.find(':') == std::string::npos) return consists_of(host, 1, kMaxHostBytes, is_name_character);
  boost::system::error_code error;
  boost::asio::ip::make_address_v6(host, error);
  return !error;
}

/// "host:port" or "[v6]:port".
std::optional<std::pair<std::string, std::uint16_t>> parse_target(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto host = text.substr(0, colon);
  const auto digits = text.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  // Only an address of IPv6 has colons, and then brackets around it.
  if (bracketed != (host.find(':') != std::string_view::npos)) return std::nullopt;
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (digits.empty() || digits.front() == '0' || error != std::errc() || end != digits.data() + digits.size())
    return std::nullopt;
  return std::pair(std::string(host), port);
}

tl::unexpected<tunnel::Refusal> bad(const std::string& what) {
  return refuse(Code::bad_request, "announce: " + what);
}

/// Moves the text of a member; false when there is none.
bool take_text(const json& from, const char* name, std::string& into) {
  const auto found = from.find(name);
  if (found == from.end() || !found->is_string()) return false;
  into = found->get<std::string>();
  return true;
}

tunnel::Served<Announcement::Service> parse_service(const json& value, const std::string& where) {
  Announcement::Service service;
  std::string target;
  if (!value.is_object()) return bad(where + " must be an object");
  if (!take_text(value, "name", service.name)) return bad(where + ".name must be text");
  if (!take_text(value, "target", target)) return bad(where + ".target must be text");
  auto parsed = parse_target(target);
  if (!parsed) return bad(where + ".target must be host:port, e.g. 127.0.0.1:11434");
  service.host = std::move(parsed->first);
  service.port = parsed->second;
  return service;
}

}  // namespace

bool valid_agent_id(std::string_view text) {
  return consists_of(text, 1, 63, [](char c) { return is_lower_or_digit(c) || c == '-'; });
}

std::string fault_of(const Announcement& announcement) {
  if (!valid_agent_id(announcement.agent_id)) return "agentId must be 1 to 63 of a-z 0-9 -";
  if (!valid_boot_id(announcement.boot_id)) return "bootId must be 32 hexadecimal digits";
  if (!consists_of(announcement.user, 1, 64, is_name_character))
    return "user must be 1 to 64 of A-Z a-z 0-9 . _ -";
  if (const auto key = ssh::public_key_blob(announcement.host_key); !key)
    return "hostKey " + key.error().message;
  if (announcement.services.empty()) return "services must not be empty";
  std::set<std::string_view> names;
  for (std::size_t at = 0; at < announcement.services.size(); ++at) {
    const auto& service = announcement.services[at];
    const auto where = "services[" + std::to_string(at) + "]";
    if (!tunnel::valid_service_name(service.name))
      return where + ".name must be 1 to 63 of a-z 0-9 and -, beginning with a letter or digit";
    if (!names.insert(service.name).second) return where + ".name is there twice";
    if (!valid_host(service.host) || service.port == 0) return where + ".target must name a host and a port";
  }
  return {};
}

tunnel::Served<Announcement> parse_announcement(std::string_view text) {
  const auto parsed = parse_strict_json(text, kMaxMessageBytes, kMaxDepth);
  if (!parsed) return bad("the message " + parsed.error().message);
  if (!parsed->is_object()) return bad("the message must be an object");
  Announcement announcement;
  const std::pair<const char*, std::string*> texts[] = {{"agentId", &announcement.agent_id},
                                                        {"bootId", &announcement.boot_id},
                                                        {"user", &announcement.user},
                                                        {"hostKey", &announcement.host_key}};
  for (const auto& [name, into] : texts)
    if (!take_text(*parsed, name, *into)) return bad(std::string(name) + " must be text");
  if (const auto slot = parsed->find("slot"); slot != parsed->end()) {
    if (!slot->is_number_unsigned() || slot->get<std::uint64_t>() >= kMostAgentConnections)
      return bad("slot must be 0 to " + std::to_string(kMostAgentConnections - 1));
    announcement.slot = slot->get<unsigned>();
  }
  const auto services = parsed->find("services");
  if (services == parsed->end() || !services->is_array()) return bad("services must be a list");
  for (std::size_t at = 0; at < services->size(); ++at) {
    auto service = parse_service((*services)[at], "services[" + std::to_string(at) + "]");
    if (!service) return tl::unexpected<tunnel::Refusal>(std::move(service.error()));
    announcement.services.push_back(std::move(*service));
  }
  if (auto fault = fault_of(announcement); !fault.empty()) return bad(fault);
  return announcement;
}

}  // namespace tunneld::upstream
