#include "tunnelctl/commands/config_values.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <ostream>
#include <utility>

#include "tunnelctl/client/preferences_file.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

/// How the option of a setting is described; its values are those of the setting.
struct OptionText {
  std::string_view key;
  const char* type;
  const char* help;
};

constexpr std::array kOptions = {
    OptionText{"profile", "stable|unstable|low-bandwidth",
               "settings that go together (TUNNEL_PROFILE; default stable)"},
    OptionText{"retry", "NUMBER|forever",
               "attempts in a row before it gives up (TUNNEL_RETRY; default 10, or the profile's)"},
    OptionText{"base_delay", "DURATION",
               "the wait after the first failed attempt, which doubles with each (TUNNEL_BASE_DELAY; default "
               "2s, or the profile's)"},
    OptionText{"request_timeout", "SECONDS",
               "how long a request of --http may wait for the connection, and then for its answer "
               "(TUNNEL_REQUEST_TIMEOUT; default 30s, or the profile's)"},
    OptionText{"queue", "NUMBER",
               "requests of --http that may wait (TUNNEL_QUEUE; default 100, or the profile's)"},
    OptionText{
        "compression", "on|off",
        "compress what is sent, where tunneld agrees (TUNNEL_COMPRESSION; default off, or the profile's)"},
    OptionText{"log_level", "error|warn|info|debug",
               "how much is told on standard error (TUNNEL_LOG_LEVEL; default info, or the profile's)"},
};

struct ConfigGet {
  std::string key{};
  bool json = false;
  std::shared_ptr<client::Values> options = std::make_shared<client::Values>();
};
struct ConfigList {
  bool json = false;
  std::shared_ptr<client::Values> options = std::make_shared<client::Values>();
};
struct ConfigSet {
  std::string key{}, value{};
};
struct ConfigReset {
  std::string key{};
};

// ---- get and list ----

Json json_of(const client::Resolved::Value& value) {
  return {{"key", value.setting->key},
          {"value", value.text},
          {"default", value.default_text},
          {"source", client::to_string(value.source)},
          {"from", value.from},
          {"option", value.setting->option},
          {"variable", value.setting->variable},
          {"help", value.setting->help}};
}

ExitStatus print_json(Session& session, const Configuration& file, const client::Resolved& resolved) {
  Json list = Json::array();
  for (const auto& value : resolved.values) list.push_back(json_of(value));
  session.out << pretty({{"file", file.path.string()},
                         {"exists", file.exists},
                         {"profile", client::named(resolved.profile).name},
                         {"settings", std::move(list)}});
  return ExitStatus::ok;
}

Result<ExitStatus> run(const ConfigGet& options, Session& session) {
  const client::Setting* setting = nullptr;
  if (!options.key.empty()) {
    auto found = client::setting_named(options.key);
    if (!found) return refuse(session, ExitStatus::bad_input, found.error().message);
    setting = *found;
  }
  const auto resolved = client_settings(session, *options.options);
  if (!resolved) return tl::unexpected(resolved.error());
  const bool json = options.json || session.json();
  if (setting == nullptr && json) return print_json(session, *session.own_configuration(), *resolved);
  if (setting == nullptr) {
    for (const auto& value : resolved->values) session.out << value.setting->key << '=' << value.text << '\n';
    return ExitStatus::ok;
  }
  const auto& value = resolved->value(setting->key);
  session.out << (json ? pretty(json_of(value)) : value.text + "\n");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const ConfigList& options, Session& session) {
  const auto resolved = client_settings(session, *options.options);
  if (!resolved) return tl::unexpected(resolved.error());
  const auto file = session.own_configuration();
  if (!file) return tl::unexpected(file.error());
  if (options.json || session.json()) return print_json(session, *file, *resolved);
  std::vector<std::vector<std::string>> rows;
  for (const auto& value : resolved->values)
    rows.push_back(
        {std::string(value.setting->key), value.text, value.default_text, terminal::harmless(value.from)});
  terminal::print_table(session.out, {"KEY", "VALUE", "DEFAULT", "FROM"}, rows);
  if (!file->exists && !file->path.empty())
    session.say("There is no configuration file; tunnelctl config set would make " +
                terminal::harmless(file->path.string()) + ".");
  return ExitStatus::ok;
}

// ---- set and reset ----

/// Before and after, as the file and its profile say it.
struct Change {
  client::Resolved before{}, after{};
};

/// One line for each value that is another one now.
ExitStatus tell(const Change& change, const std::string& otherwise, Session& session) {
  Json json = Json::object();
  for (const auto& now : change.after.values) {
    const auto& key = now.setting->key;
    const auto& was = change.before.value(key);
    if (was.text == now.text) continue;
    const auto text = was.text + " -> " + now.text;
    json[std::string(key)] = text;
    if (session.json()) continue;
    session.out << key << ": " << text << '\n';
    if (const auto* variable = session.variable(now.setting->variable))
      session.warn(std::string(now.setting->variable) + "=" + terminal::harmless(*variable) +
                   " in the environment wins over it");
  }
  if (session.json())
    session.out << pretty({{"changes", json}});
  else if (json.empty())
    session.say(otherwise);
  return ExitStatus::ok;
}

Error unwritable(const std::filesystem::path& path) {
  return {
      Error::Kind::bad_input,
      path.string() + ": its section \"client\" cannot be changed without changing more; edit it by hand"};
}

/// The new text. Whatever the file looks like, nothing but `wanted` may be another after it.
Result<std::string> edited(const std::filesystem::path& path, const std::string& text,
                           const std::map<std::string, std::optional<std::string>>& wanted, Change& change) {
  const auto before = parse_configuration(path, text);
  if (!before) return tl::unexpected(before.error());
  auto values = before->client;
  std::string result = text;
  for (const auto& [key, value] : wanted) {
    const bool there = values.contains(key);
    if (value) values[key] = *value;
    if (!value) values.erase(key);
    if (!value && !there) continue;
    auto next = client::with_preference(result, key, value);
    if (!next) return fail(Error::Kind::bad_input, path.string() + ": " + next.error().message);
    result = std::move(*next);
  }
  const auto after = parse_configuration(path, result);
  if (!after || after->client != values || after->contexts != before->contexts ||
      after->current != before->current)
    return tl::unexpected(unwritable(path));
  auto was = client::resolve({.file = before->client});
  auto now = client::resolve({.file = after->client});
  if (!was || !now) return tl::unexpected(unwritable(path));
  change = {std::move(*was), std::move(*now)};
  return result;
}

Result<Change> change_file(Session& session,
                           const std::map<std::string, std::optional<std::string>>& wanted) {
  const auto path = session.configuration_path();
  if (path.empty()) {
    session.configuration_is_wrong = true;
    return fail(
        Error::Kind::bad_input,
        "there is no place for a configuration file: set HOME or XDG_CONFIG_HOME, or say --config FILE");
  }
  Change change;
  const auto done = client::change_own_file(
      path, [&](const std::string& text) { return edited(path, text, wanted, change); });
  if (done) return change;
  const auto kind = done.error().kind;
  if (kind == Error::Kind::timed_out) return tl::unexpected(done.error());
  if (kind == Error::Kind::bad_input || kind == Error::Kind::denied) {
    session.configuration_is_wrong = true;
    return fail(Error::Kind::bad_input, done.error().message);
  }
  // Of this machine, not of another side.
  return fail(Error::Kind::not_found, done.error().message);
}

Result<ExitStatus> run(const ConfigSet& options, Session& session) {
  const auto setting = client::setting_named(options.key);
  if (!setting) return refuse(session, ExitStatus::bad_input, setting.error().message);
  const std::string key((*setting)->key);
  if (const auto wrong = client::check(**setting, options.value); !wrong.empty())
    return refuse(session, ExitStatus::bad_input,
                  key + ": \"" + options.value + "\" " + wrong + "; nothing was changed");
  const auto value = client::canonical(**setting, options.value);
  const auto change = change_file(session, {{key, value}});
  if (!change) return tl::unexpected(change.error());
  return tell(*change, key + " is " + value + " already", session);
}

Result<ExitStatus> run(const ConfigReset& options, Session& session) {
  std::map<std::string, std::optional<std::string>> wanted;
  if (!options.key.empty()) {
    const auto setting = client::setting_named(options.key);
    if (!setting) return refuse(session, ExitStatus::bad_input, setting.error().message);
    wanted.emplace((*setting)->key, std::nullopt);
  } else {
    for (const auto& one : client::settings()) wanted.emplace(one.key, std::nullopt);
  }
  const std::string nothing = "nothing to change: every value is the default already";
  const auto path = session.configuration_path();
  std::error_code ignored;
  if (!path.empty() && !std::filesystem::exists(path, ignored)) {
    const auto defaults = client::resolve({});
    return tell({*defaults, *defaults}, nothing, session);
  }
  const auto change = change_file(session, wanted);
  if (!change) return tl::unexpected(change.error());
  return tell(*change,
              options.key.empty() ? nothing : "nothing to change: " + options.key + " is the default already",
              session);
}

void add_json(CLI::App& verb, bool& json) {
  verb.add_flag("--json", json, "the same as --output json");
}

}  // namespace

Result<client::Resolved> client_settings(Session& session, client::Values options) {
  auto file = session.own_configuration();
  if (!file) return tl::unexpected(file.error());
  auto resolved =
      client::resolve({.options = std::move(options),
                       .variable = [&](std::string_view name) { return session.variable(name); },
                       .file = std::move(file->client),
                       .place = [&](std::string_view key) { return file->client_places.find(key)->second; }});
  if (!resolved) session.configuration_is_wrong = true;
  return resolved;
}

void add_client_options(CLI::App& verb, const std::shared_ptr<client::Values>& values,
                        std::initializer_list<std::string_view> keys) {
  for (const auto key : keys) {
    const auto* setting = client::find_setting(key);
    const auto* text = std::find_if(kOptions.begin(), kOptions.end(),
                                    [&](const OptionText& one) { return one.key == setting->key; });
    verb.add_option_function<std::string>(
            std::string(setting->option),
            [values, setting](const std::string& value) { (*values)[std::string(setting->key)] = value; },
            text->help)
        ->type_name(text->type)
        ->check([setting](const std::string& value) { return client::check(*setting, value); });
  }
}

void add_config_values(CLI::App& group, Chosen& chosen) {
  auto get = std::make_shared<ConfigGet>();
  auto& get_verb = add_verb(group, chosen, "get", "Prints a setting of connect and agent, or all of them",
                            "  tunnelctl config get retry\n"
                            "  tunnelctl config get --profile unstable\n"
                            "  tunnelctl config get queue --json",
                            get);
  get_verb.add_option("key", get->key, "which; all without it")->type_name("KEY");
  add_client_options(get_verb, get->options, {"profile"});
  add_json(get_verb, get->json);

  auto set = std::make_shared<ConfigSet>();
  auto& set_verb =
      add_verb(group, chosen, "set", "Writes a setting of connect and agent into the configuration file",
               "  tunnelctl config set profile unstable\n"
               "  tunnelctl config set retry forever\n"
               "  tunnelctl config set request_timeout 60s",
               set);
  set_verb.add_option("key", set->key, "which; tunnelctl config list shows them")
      ->type_name("KEY")
      ->required();
  set_verb.add_option("value", set->value, "its value")->type_name("VALUE")->required();

  auto list = std::make_shared<ConfigList>();
  auto& list_verb = add_verb(group, chosen, "list",
                             "Shows every setting of connect and agent, and where its value comes from",
                             "  tunnelctl config list\n"
                             "  tunnelctl config list --profile low-bandwidth\n"
                             "  tunnelctl config list --json",
                             list);
  add_client_options(list_verb, list->options, {"profile"});
  add_json(list_verb, list->json);

  auto reset = std::make_shared<ConfigReset>();
  auto& reset_verb =
      add_verb(group, chosen, "reset", "Takes a setting, or all of them, out of the configuration file",
               "  tunnelctl config reset queue\n"
               "  tunnelctl config reset",
               reset);
  reset_verb.add_option("key", reset->key, "which; all without it")->type_name("KEY");
}

}  // namespace tunnelctl
