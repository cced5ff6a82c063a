#include <fnmatch.h>
#include <algorithm>
#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct SettingsGet {
  std::vector<std::string> keys{};
  bool hot = false;
};
struct SettingsSet {
  std::vector<std::string> pairs{};
};
struct SettingsReset {
  std::vector<std::string> keys{};
  bool yes = false;
};

bool wanted(const SettingsGet& options, const std::string& key, const daemon::Setting& setting) {
  if (options.hot && !setting.hot) return false;
  return options.keys.empty() || std::any_of(options.keys.begin(), options.keys.end(), [&](const auto& glob) {
           return ::fnmatch(glob.c_str(), key.c_str(), 0) == 0;
         });
}

Result<ExitStatus> run(const SettingsGet& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  auto settings = admin->settings();
  if (!settings) return tl::unexpected(settings.error());
  std::erase_if(settings->values, [&](const auto& one) { return !wanted(options, one.first, one.second); });
  if (settings->values.empty() && !options.keys.empty())
    return fail(Error::Kind::bad_input, "tunneld has no such setting; tunnelctl settings get lists them all");
  if (session.json()) {
    daemon::Json values = daemon::Json::object();
    for (const auto& [key, one] : settings->values) {
      values[key] = {{"value", one.value}, {"from", one.from}, {"hot", one.hot}};
      if (!one.after_restart.empty()) values[key]["afterRestart"] = one.after_restart;
    }
    session.out << daemon::Json{{"etag", settings->etag}, {"values", values}}.dump(
                       2, ' ', false, daemon::Json::error_handler_t::replace)
                << '\n';
    return ExitStatus::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, one] : settings->values)
    rows.push_back(
        {terminal::harmless(key), terminal::harmless(one.value), one.hot ? "yes" : "",
         terminal::harmless(one.from +
                            (one.after_restart.empty() ? "" : "; after a restart: " + one.after_restart))});
  terminal::print_table(session.out, {"KEY", "VALUE", "HOT", "FROM"}, rows);
  return ExitStatus::ok;
}

/// What it looks like: a number, a switch, a list, null, or else text.
daemon::Json value_of(const std::string& text) {
  auto json = daemon::Json::parse(text, nullptr, false);
  return json.is_discarded() ? daemon::Json(text) : json;
}

ExitStatus tell(const daemon::Changes& changes, Session& session) {
  if (session.json()) {
    daemon::Json json = daemon::Json::object();
    for (const auto& [key, change] : changes) json[key] = change;
    session.out << daemon::Json{{"changes", json}}.dump(2, ' ', false, daemon::Json::error_handler_t::replace)
                << '\n';
    return ExitStatus::ok;
  }
  if (changes.empty()) session.say("nothing to change");
  for (const auto& [key, change] : changes)
    session.out << terminal::harmless(key) << ": " << terminal::harmless(change) << '\n';
  return ExitStatus::ok;
}

Result<ExitStatus> tell(const Result<std::variant<daemon::Changes, daemon::Conflict>>& answer,
                        Session& session) {
  if (!answer) return tl::unexpected(answer.error());
  if (const auto* conflict = std::get_if<daemon::Conflict>(&*answer))
    return refuse(session, ExitStatus::conflict, conflict->why);
  return tell(std::get<daemon::Changes>(*answer), session);
}

Result<ExitStatus> run(const SettingsSet& options, Session& session) {
  daemon::Json values = daemon::Json::object();
  for (const auto& pair : options.pairs) {
    const auto sign = pair.find('=');
    if (sign == std::string::npos || sign == 0)
      return fail(Error::Kind::bad_input, "\"" + terminal::harmless(pair) + "\" must read KEY=VALUE");
    const auto key = pair.substr(0, sign);
    if (values.contains(key))
      return fail(Error::Kind::bad_input, terminal::harmless(key) + " is given twice");
    values[key] = value_of(pair.substr(sign + 1));
  }
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  // The change is decided on what holds now.
  const auto settings = admin->settings();
  if (!settings) return tl::unexpected(settings.error());
  return tell(admin->change_settings(values, settings->etag), session);
}

Result<ExitStatus> run(const SettingsReset& options, Session& session) {
  if (options.keys.empty())
    if (const auto ended =
            unless_confirmed(session, options.yes, "take back every setting that was changed at run time"))
      return *ended;
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  return tell(admin->reset_settings(options.keys), session);
}

}  // namespace

void add_settings(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("settings", "tunneld's settings, while it runs");
  group.require_subcommand(1);
  auto get = std::make_shared<SettingsGet>();
  auto& getting = add_verb(group, chosen, "get", "Shows settings, and where each comes from",
                           "  tunnelctl settings get\n"
                           "  tunnelctl settings get 'limits.*' --hot --output json",
                           get);
  getting.add_option("key", get->keys, "only these; * stands for anything");
  getting.add_flag("--hot", get->hot, "only those that may be changed while it runs");
  auto set = std::make_shared<SettingsSet>();
  auto& setting = add_verb(group, chosen, "set", "Changes settings at once, all or none; restarts keep them",
                           "  tunnelctl settings set request.slow=2s\n"
                           "  tunnelctl settings set request.slow=null   # what file and environment say",
                           set);
  setting.add_option("KEY=VALUE", set->pairs, "null goes back to what file and environment say")->required();
  auto reset = std::make_shared<SettingsReset>();
  auto& resetting = add_verb(group, chosen, "reset", "Goes back to what file and environment say",
                             "  tunnelctl settings reset request.slow\n"
                             "  tunnelctl settings reset --yes   # all of them",
                             reset);
  resetting.add_option("key", reset->keys, "which; default: all that were changed at run time");
  resetting.add_flag("-y,--yes", reset->yes, "do not ask");
}

}  // namespace tunnelctl
