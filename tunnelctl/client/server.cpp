#include "tunnelctl/client/server.h"

#include "common/http_access.h"
#include "common/http_url.h"

namespace tunnelctl::client {

Result<std::string> server_url(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return fail(Error::Kind::bad_input, "the server's address is empty");
  text = text.substr(first, text.find_last_not_of(" \t") + 1 - first);
  while (text.ends_with('/')) text.remove_suffix(1);
  const auto scheme_end = text.find("://");
  const auto scheme =
      scheme_end == std::string_view::npos ? std::string_view("wss") : text.substr(0, scheme_end);
  const auto rest = scheme_end == std::string_view::npos ? text : text.substr(scheme_end + 3);
  const bool tls = scheme == "wss" || scheme == "https";
  if (!tls && scheme != "ws" && scheme != "http")
    return fail(Error::Kind::bad_input,
                http::shown_url(text) + ": the server's address must start with wss:// or https://");
  // The same rules as for every other address; its scheme is the only difference.
  const auto checked = http::parse_url(std::string(tls ? "https://" : "http://").append(rest));
  if (!checked) return fail(Error::Kind::bad_input, http::shown_url(text) + ": " + checked.error().message);
  if (rest.find('?') != std::string_view::npos)
    return fail(Error::Kind::bad_input,
                http::shown_url(text) + ": the server's address must not have a ?query");
  return std::string(tls ? "wss://" : "ws://").append(rest);
}

Result<Secret> read_token(const ServerSettings& server) {
  if (!server.token_file.empty()) return http::read_token(server.token_file, server.token_setting);
  if (!server.token.empty()) return server.token;
  return fail(Error::Kind::bad_input,
              "there is no token: name a file that holds one with --token-file, or set TUNNEL_TOKEN_FILE");
}

edge::ClientTarget target(const ServerSettings& server, std::string_view path) {
  edge::ClientTarget to;
  to.url = server.url + std::string(path);
  to.tls = server.tls;
  to.allow_plain = server.allow_plain;
  to.proxies = server.proxies;
  to.timeout = server.timeout;
  return to;
}

std::string http_url(std::string_view server_url) {
  const bool tls = server_url.starts_with("wss://");
  return std::string(tls ? "https://" : "http://").append(server_url.substr(tls ? 6 : 5));
}

http::ClientOptions http_options(const ServerSettings& server) {
  http::ClientOptions options;
  options.tls = server.tls;
  options.allow_plain = server.allow_plain;
  options.user_agent = "tunnelctl";
  options.deadline = options.total = server.timeout;
  options.proxies = server.proxies;
  return options;
}

}  // namespace tunnelctl::client
