#include "tunnelctl/client/agent_services.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "common/http_access.h"

namespace tunnelctl::client {
namespace {

constexpr std::size_t kMostServices = 100;

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool is_service_name(std::string_view text) {
  return !text.empty() && text.size() <= 63 && is_lower_or_digit(text.front()) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_lower_or_digit(c) || c == '-'; });
}

/// Host names, IPv4, or IPv6 in brackets; nothing that sshd would take for a pattern.
bool is_host(std::string_view text) {
  const bool v6 = text.size() > 2 && text.front() == '[' && text.back() == ']';
  const auto name = v6 ? text.substr(1, text.size() - 2) : text;
  return !name.empty() && name.size() <= 253 && name.front() != '-' &&
         std::all_of(name.begin(), name.end(), [v6](char c) {
           const bool hex = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || (c >= '0' && c <= '9');
           if (v6) return hex || c == ':' || c == '.';
           return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';
         });
}

bool is_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535 &&
         text.front() != '0';
}

}  // namespace

Result<AgentService> parse_agent_service(std::string_view text) {
  const auto wrong = [&](const char* why) {
    return fail(Error::Kind::bad_input, "--service \"" + http::one_line(text, 100) + "\": " + why +
                                            "; it is written name=host:port, as in ollama=127.0.0.1:11434");
  };
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) return wrong("there is no =");
  const auto name = text.substr(0, equals);
  const auto target = text.substr(equals + 1);
  if (!is_service_name(name))
    return wrong("a name has 1 to 63 small letters, digits and hyphens, and begins with no hyphen");
  const auto colon = target.rfind(':');
  if (colon == std::string_view::npos) return wrong("the target has no port");
  const auto host = target.substr(0, colon);
  if (host.find(':') != std::string_view::npos && !host.starts_with('['))
    return wrong("an IPv6 address stands in brackets");
  if (!is_host(host)) return wrong("the host is no name and no address");
  if (colon + 1 == target.size() || !is_port(target.substr(colon + 1))) return wrong("a port is 1 to 65535");
  return AgentService{std::string(name), std::string(target)};
}

Result<std::vector<AgentService>> parse_agent_services(const std::vector<std::string>& texts) {
  if (texts.empty())
    return fail(Error::Kind::bad_input, "no service is named: say --service name=host:port at least once");
  if (texts.size() > kMostServices)
    return fail(Error::Kind::bad_input, "an agent announces a hundred services at most");
  std::vector<AgentService> services;
  for (const auto& text : texts) {
    auto service = parse_agent_service(text);
    if (!service) return tl::unexpected(service.error());
    for (const auto& other : services)
      if (other.name == service->name)
        return fail(Error::Kind::bad_input, "--service: the name \"" + service->name + "\" is given twice");
    services.push_back(std::move(*service));
  }
  return services;
}

}  // namespace tunnelctl::client
