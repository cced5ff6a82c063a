#include "tunnelctl/commands/session.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <iostream>

#include <nlohmann/json.hpp>

#include "common/config_file.h"
#include "tunnelctl/client/preferences_file.h"
#include "tunnelctl/client/server.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

const std::string* find(const Environment& environment, std::string_view name) {
  for (const auto& [key, value] : environment)
    if (key == name && !value.empty()) return &value;
  return nullptr;
}

std::filesystem::path default_path(const Environment& environment) {
  if (const auto* named = find(environment, "XDG_CONFIG_HOME"))
    return std::filesystem::path(*named) / "tunnelctl" / "config.yaml";
  if (const auto* home = find(environment, "HOME"))
    return std::filesystem::path(*home) / ".config" / "tunnelctl" / "config.yaml";
  return {};
}

void bind_context(config::Schema& schema, Context& context) {
  const auto url = [](std::string_view text) {
    return text.empty() || text.starts_with("http://") || text.starts_with("https://")
               ? std::string()
               : std::string("must start with https:// or http://");
  };
  schema.add("name", &context.name, {.help = "How --context calls it.", .example = "prod", .required = true});
  schema.add("grafana_url", &context.grafana_url,
             {.help = "Grafana's address.", .example = "https://grafana.example.org", .check = url});
  schema.add("token_file", &context.token_file,
             {.help = "File with a service-account token; read at every run.",
              .example = "~/.config/tunnelctl/prod.token"});
  schema.add("username", &context.username, {.help = "For basic authentication instead of a token."});
  schema.add("password_file", &context.password_file, {.help = "File with that user's password."});
  schema.add("org", &context.org,
             {.help = "Organisation, when it is not the token's own.", .range = {0, 1'000'000'000}});
  schema.add("headers", &context.headers,
             {.help = "More request headers, \"Name: value\", e.g. for a proxy in front."});
  schema.add("ca_file", &context.ca_file, {.help = "Certificates to trust instead of the system's (PEM)."});
  schema.add("certificate_file", &context.certificate_file, {.help = "Client certificate (PEM)."});
  schema.add("key_file", &context.key_file, {.help = "Its key (PEM)."});
  schema.add("read_only", &context.read_only, {.help = "Refuse every command that would change something."});
  schema.add("allow_plain_http", &context.allow_plain_http,
             {.help = "Send the token over http:// to another machine."});
  schema.add(
      "prometheus_url", &context.prometheus_url,
      {.help = "Prometheus, for commands that ask it directly, and where Grafana has no such data source.",
       .check = url});
  schema.add("loki_url", &context.loki_url, {.help = "Loki, likewise.", .check = url});
  schema.add("prometheus_token_file", &context.prometheus_token_file,
             {.help = "File with a token for prometheus_url; read at every run."});
  schema.add("loki_token_file", &context.loki_token_file, {.help = "Likewise for loki_url."});
  schema.add("runbook_url", &context.runbook_url,
             {.help = "Where the runbooks are served; unset: a dashboard of their own.", .check = url});
  schema.add("datasources", &context.datasources,
             {.help = "Data sources of the packs, \"variable=uid\".", .example = "datasource=prom-1"});
  schema.add("admin_url", &context.admin_url,
             {.help = "tunneld's admin listener; unset: the one on this machine.",
              .example = "http://127.0.0.1:9090",
              .check = url});
  schema.add("admin_token_file", &context.admin_token_file,
             {.help = "File with a token of scope tunnel:admin for it; read at every run."});
  schema.add("server_url", &context.server_url,
             {.help = "tunneld's public listener, for connect and agent.",
              .example = "wss://tunnel.example.org",
              .check = [](std::string_view text) {
                const auto read = text.empty() ? Result<std::string>() : client::server_url(text);
                return read ? std::string() : read.error().message;
              }});
  schema.add("server_token_file", &context.server_token_file,
             {.help = "File with the token for it; read for every connection.",
              .example = "~/.config/tunnelctl/prod.jwt"});
}

void bind_client(config::Schema& schema, client::Values& values) {
  for (const auto& setting : client::settings()) {
    config::Docs docs{.help = std::string(setting.help), .example = std::string(setting.example)};
    docs.help.append(" Wins over it: `").append(setting.option).append("`, and `");
    docs.help.append(setting.variable).append("` in the environment.");
    docs.check = [&setting](std::string_view text) { return client::check(setting, text); };
    schema.add(std::string(client::kPreferences) + "." + std::string(setting.key),
               &values[std::string(setting.key)], std::move(docs));
  }
}

void bind(config::Schema& schema, Configuration& configuration) {
  schema.add("current", &configuration.current,
             {.help = "The context that is used when none is named.", .example = "prod"});
  schema.add_list("contexts", &configuration.contexts, bind_context,
                  {.help = "Servers by name.", .unique = "name"});
  bind_incident(schema, configuration.incident);
  bind_client(schema, configuration.client);
}

/// As the Grafana MCP server reads GRAFANA_URL: without a scheme, http for this machine and https for others.
std::string completed(std::string url) {
  const auto first = url.find_first_not_of(" \t");
  if (first == std::string::npos) return {};
  url = url.substr(first, url.find_last_not_of(" \t") - first + 1);
  while (url.ends_with('/')) url.pop_back();
  if (url.find("://") != std::string::npos) return url;
  const bool here = url.starts_with("localhost") || url.starts_with("127.0.0.1") || url.starts_with("[::1]");
  return (here ? "http://" : "https://") + url;
}

Result<std::int64_t> number(const std::string& name, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1)
    return fail(Error::Kind::bad_input, name + ": \"" + text + "\" is no organisation number");
  return value;
}

Result<void> add_header_lines(grafana::Connection& connection, const std::vector<std::string>& lines) {
  for (const auto& line : lines) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || colon == 0)
      return fail(Error::Kind::bad_input, "headers: each must read \"Name: value\"");
    const auto value = line.find_first_not_of(' ', colon + 1);
    connection.headers.emplace_back(line.substr(0, colon),
                                    value == std::string::npos ? "" : line.substr(value));
  }
  return {};
}

std::filesystem::path at_home(const std::filesystem::path& path, const Environment& environment) {
  const auto* home = find(environment, "HOME");
  return home != nullptr && path.string().starts_with("~/")
             ? std::filesystem::path(*home) / path.string().substr(2)
             : path;
}

Result<Secret> first_line(const std::filesystem::path& path, const char* setting) {
  auto text = config::read_file(path, 64 * 1024);
  if (!text) return fail(text.error().kind, std::string(setting) + ": " + text.error().message);
  return Secret(text->substr(0, text->find_first_of("\r\n")));
}

Result<void> from_context(grafana::Connection& connection, const Context& context,
                          const Environment& environment) {
  connection.url = completed(context.grafana_url);
  connection.token_file = at_home(context.token_file, environment);
  connection.username = context.username;
  if (!context.password_file.empty()) {
    auto password = first_line(at_home(context.password_file, environment), "password_file");
    if (!password) return tl::unexpected(password.error());
    connection.password = std::move(*password);
  }
  if (context.org > 0) connection.org = context.org;
  connection.read_only = context.read_only;
  connection.allow_plain = context.allow_plain_http;
  const auto file = [&](const std::filesystem::path& path, std::optional<std::filesystem::path>& to) {
    if (!path.empty()) to = at_home(path, environment);
  };
  file(context.ca_file, connection.tls.ca);
  file(context.certificate_file, connection.tls.certificate);
  file(context.key_file, connection.tls.key);
  return add_header_lines(connection, context.headers);
}

/// The names that the Grafana MCP server reads.
Result<void> credentials_of_environment(grafana::Connection& connection, const Environment& environment) {
  connection.token = Secret();
  connection.token_file.clear();
  connection.username.clear();
  for (const char* name : {"GRAFANA_SERVICE_ACCOUNT_TOKEN", "GRAFANA_API_KEY"})
    if (const auto* value = find(environment, name); value != nullptr && connection.token.empty())
      connection.token = Secret(*value);
  if (const auto* value = find(environment, "GRAFANA_SERVICE_ACCOUNT_TOKEN_FILE");
      value != nullptr && connection.token.empty())
    connection.token_file = *value;
  if (const auto* value = find(environment, "GRAFANA_USERNAME")) connection.username = *value;
  if (const auto* value = find(environment, "GRAFANA_PASSWORD")) connection.password = Secret(*value);
  if (const auto* value = find(environment, "GRAFANA_ORG_ID")) {
    auto org = number("environment GRAFANA_ORG_ID", *value);
    if (!org) return tl::unexpected(org.error());
    connection.org = *org;
  }
  if (const auto* value = find(environment, "GRAFANA_EXTRA_HEADERS")) {
    const auto headers = nlohmann::json::parse(*value, nullptr, false);
    if (!headers.is_object())
      return fail(Error::Kind::bad_input,
                  "environment GRAFANA_EXTRA_HEADERS: must be a JSON object of header names and values");
    for (const auto& item : headers.items()) {
      if (!item.value().is_string())
        return fail(Error::Kind::bad_input,
                    "environment GRAFANA_EXTRA_HEADERS: the value of " + item.key() + " must be text");
      connection.headers.emplace_back(item.key(), item.value().get<std::string>());
    }
  }
  return {};
}

}  // namespace

std::filesystem::path configuration_path(const Globals& globals, const Environment& environment) {
  if (!globals.config.empty()) return globals.config;
  const auto* named = find(environment, "TUNNELCTL_CONFIG");
  return named != nullptr ? std::filesystem::path(*named) : default_path(environment);
}

Result<Configuration> parse_configuration(const std::filesystem::path& path, std::string text) {
  Configuration result;
  result.path = path;
  result.exists = true;
  config::Schema schema;
  bind(schema, result);
  const auto loaded = schema.load({.file_name = path.string(), .file_text = std::move(text)});
  if (!loaded) return tl::unexpected(loaded.error());
  std::erase_if(result.client, [](const auto& one) { return one.second.empty(); });
  for (const auto& [key, value] : result.client)
    result.client_places[key] = schema.origin(std::string(client::kPreferences) + "." + key);
  return result;
}

Result<Configuration> load_configuration(const Globals& globals, const Environment& environment,
                                         Writers writers) {
  const bool must_exist = !globals.config.empty() || find(environment, "TUNNELCTL_CONFIG") != nullptr;
  const auto path = configuration_path(globals, environment);
  Configuration none;
  none.path = path;
  if (path.empty()) return none;
  auto text = writers == Writers::owner ? client::read_own_file(path) : config::read_file(path);
  if (text) return parse_configuration(path, std::move(*text));
  if (text.error().kind == Error::Kind::not_found && !must_exist) return none;
  return fail(Error::Kind::bad_input, text.error().message);
}

std::string configuration_reference() {
  Configuration configuration;
  config::Schema schema;
  bind(schema, configuration);
  return schema.reference();
}

Session::Session(std::ostream& to, std::ostream& talk, Environment environment, std::stop_token ends)
    : out(to), err(talk), in(&std::cin), stop(std::move(ends)), environment_(std::move(environment)) {
  out_is_terminal = &out == &std::cout && ::isatty(STDOUT_FILENO) != 0;
  err_is_terminal = &err == &std::cerr && ::isatty(STDERR_FILENO) != 0;
}

bool Session::coloured() const {
  if (globals.colour != "auto") return globals.colour == "always";
  return out_is_terminal && variable("NO_COLOR") == nullptr;
}

void Session::say(std::string_view line) const {
  if (!globals.quiet) err << line << '\n';
}

void Session::warn(std::string_view line) const {
  err << "tunnelctl: warning: " << line << '\n';
}

void Session::progress(std::string_view text) const {
  if (err_is_terminal && !globals.quiet) err << "\r\x1b[K" << text << std::flush;
}

const std::string* Session::variable(std::string_view name) const {
  return find(environment_, name);
}

Result<Configuration> Session::configuration() {
  if (!configuration_) {
    auto loaded = load_configuration(globals, environment_);
    if (!loaded) {
      configuration_is_wrong = true;
      return loaded;
    }
    configuration_ = std::move(*loaded);
  }
  return *configuration_;
}

Result<Configuration> Session::own_configuration() {
  if (!is_own_) {
    auto loaded = load_configuration(globals, environment_, Writers::owner);
    if (!loaded) {
      configuration_is_wrong = true;
      return loaded;
    }
    configuration_ = std::move(*loaded);
    is_own_ = true;
  }
  return *configuration_;
}

std::filesystem::path Session::configuration_path() const {
  return tunnelctl::configuration_path(globals, environment_);
}

Result<std::optional<Context>> Session::context() {
  if (auto loaded = configuration(); !loaded) return tl::unexpected(loaded.error());
  const std::string& wanted = globals.context.empty() ? configuration_->current : globals.context;
  if (wanted.empty()) return std::optional<Context>();
  std::string known;
  for (const auto& one : configuration_->contexts) {
    if (one.name == wanted) return std::optional<Context>(one);
    known += (known.empty() ? "" : ", ") + one.name;
  }
  configuration_is_wrong = true;
  return fail(Error::Kind::bad_input, configuration_->path.string() + ": no context is called \"" + wanted +
                                          "\"; there are: " + (known.empty() ? "none" : known));
}

bool Session::names_grafana() {
  if (!globals.grafana_url.empty()) return true;
  if (globals.context.empty() && variable("GRAFANA_URL") != nullptr) return true;
  const auto found = context();
  return found && *found && !(*found)->grafana_url.empty();
}

std::filesystem::path Session::at_home(const std::filesystem::path& path) const {
  return tunnelctl::at_home(path, environment_);
}

void Session::use_files(const Context& context, http::TlsFiles& tls) const {
  if (!context.ca_file.empty()) tls.ca = at_home(context.ca_file);
  if (!context.certificate_file.empty()) tls.certificate = at_home(context.certificate_file);
  if (!context.key_file.empty()) tls.key = at_home(context.key_file);
}

void Session::use_flags(http::TlsFiles& tls, std::chrono::milliseconds& timeout, bool& allow_plain) const {
  if (!globals.ca_file.empty()) tls.ca = globals.ca_file;
  if (!globals.certificate_file.empty()) tls.certificate = globals.certificate_file;
  if (!globals.key_file.empty()) tls.key = globals.key_file;
  tls.insecure = globals.insecure;
  tls.ca_setting = "--ca-file";
  tls.certificate_setting = "--cert-file and --key-file";
  if (globals.insecure) warn("--insecure: the server is not verified; anybody on the way can read the token");
  allow_plain = allow_plain || globals.allow_plain;
  if (globals.timeout_seconds > 0)
    timeout = std::chrono::milliseconds(static_cast<std::int64_t>(globals.timeout_seconds * 1000));
}

Result<grafana::Connection> Session::connection() {
  grafana::Connection connection;
  const auto found = context();
  if (!found) return tl::unexpected(found.error());
  const auto* url = variable("GRAFANA_URL");
  const bool by_environment = globals.context.empty() && (url != nullptr || !globals.grafana_url.empty());
  if (by_environment) {
    connection.url = url != nullptr ? completed(*url) : std::string();
    if (auto done = credentials_of_environment(connection, environment_); !done)
      return tl::unexpected(done.error());
  } else if (*found) {
    if (auto done = from_context(connection, **found, environment_); !done)
      return tl::unexpected(done.error());
  }
  if (!globals.grafana_url.empty()) {
    const auto flag = completed(globals.grafana_url);
    // What the context holds is for its own server.
    if (!by_environment && flag != connection.url) {
      connection.token_file.clear();
      connection.username.clear();
      connection.password = Secret();
      connection.org.reset();
      connection.headers.clear();
      connection.tls.certificate.reset();
      connection.tls.key.reset();
    }
    connection.url = flag;
  }
  if (!globals.token_file.empty()) {
    connection.token = Secret();
    connection.token_file = globals.token_file;
  }
  if (!globals.username.empty()) {
    connection.username = globals.username;
    connection.token = Secret();
    connection.token_file.clear();
    if (const auto* password = variable("GRAFANA_PASSWORD")) connection.password = Secret(*password);
  }
  if (globals.org) connection.org = globals.org;
  use_flags(connection.tls, connection.timeout, connection.allow_plain);
  if (globals.parallel > 0) connection.parallel = globals.parallel;
  return connection;
}

Result<daemon::Connection> Session::tunnel_connection() {
  daemon::Connection connection;
  const auto found = context();
  if (!found) return tl::unexpected(found.error());
  const auto* url = variable("TUNNEL_ADMIN_URL");
  const bool by_environment = globals.context.empty() && (url != nullptr || !globals.admin_url.empty());
  const bool by_context = !by_environment && *found && !(*found)->admin_url.empty();
  if (by_context) {
    connection.url = completed((*found)->admin_url);
    connection.token_file = at_home((*found)->admin_token_file);
  } else {
    if (by_environment && url != nullptr) connection.url = completed(*url);
    if (const auto* token = variable("TUNNEL_TOKEN"))
      connection.token = Secret(*token);
    else if (const auto* file = variable("TUNNEL_TOKEN_FILE"))
      connection.token_file = *file;
  }
  if (*found) {
    connection.read_only = (*found)->read_only;
    connection.allow_plain = (*found)->allow_plain_http;
    if (!(*found)->ca_file.empty()) connection.tls.ca = at_home((*found)->ca_file);
  }
  if (!globals.admin_url.empty()) {
    const auto flag = completed(globals.admin_url);
    // A token goes to no other server than the one it was set for.
    if (!globals.context.empty() && flag != connection.url) {
      connection.token = Secret();
      connection.token_file.clear();
    }
    connection.url = flag;
  }
  if (!globals.token_file.empty()) {
    connection.token = Secret();
    connection.token_file = globals.token_file;
  }
  use_flags(connection.tls, connection.timeout, connection.allow_plain);
  return connection;
}

Result<client::ServerSettings> Session::server(const std::string& flag) {
  client::ServerSettings server;
  const auto found = context();
  if (!found) return tl::unexpected(found.error());
  const auto* variable_url = variable("TUNNEL_SERVER");
  const bool by_environment = globals.context.empty() && (variable_url != nullptr || !flag.empty());
  const auto from_context = [&] { return *found ? (*found)->server_url : std::string(); };
  const auto named = !flag.empty() ? flag : by_environment ? *variable_url : from_context();
  const auto refuse = [&](std::string message) {
    configuration_is_wrong = true;
    return fail(Error::Kind::bad_input, std::move(message));
  };
  if (named.empty())
    return refuse(
        "no server is named: say --server wss://host, or set TUNNEL_SERVER, or a context's server_url");
  auto url = client::server_url(named);
  if (!url) return refuse(url.error().message);
  server.url = std::move(*url);
  if (*found) {
    server.allow_plain = (*found)->allow_plain_http;
    use_files(**found, server.tls);
  }
  const bool by_context = flag.empty() && !by_environment;
  if (!globals.token_file.empty()) {
    server.token_file = globals.token_file;
  } else if (by_context && !(*found)->server_token_file.empty()) {
    server.token_file = at_home((*found)->server_token_file);
    server.token_setting = "server_token_file";
  } else if (const auto* token = variable("TUNNEL_TOKEN"); token != nullptr && !by_context) {
    server.token = Secret(*token);
  } else if (const auto* path = variable("TUNNEL_TOKEN_FILE"); path != nullptr && !by_context) {
    server.token_file = *path;
    server.token_setting = "TUNNEL_TOKEN_FILE";
  }
  use_flags(server.tls, server.timeout, server.allow_plain);
  if (auto token = client::read_token(server); !token) return refuse(token.error().message);
  return server;
}

Result<daemon::Admin> Session::tunnel() {
  auto to = tunnel_connection();
  auto admin = to ? daemon::Admin::make(std::move(*to), stop) : tl::unexpected(to.error());
  if (!admin) configuration_is_wrong = true;
  return admin;
}

Result<grafana::Server> Session::grafana() {
  auto to = connection();
  auto server = to ? grafana::Server::make(std::move(*to), stop) : tl::unexpected(to.error());
  if (!server) configuration_is_wrong = true;
  return server;
}

}  // namespace tunnelctl
