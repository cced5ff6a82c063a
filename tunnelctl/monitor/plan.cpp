#include "tunnelctl/monitor/plan.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace tunnelctl::monitor {
namespace {

/// The large parts leave; what other objects are judged by stays.
std::pair<Json, Json> take_trees(Seen& seen) {
  return {std::exchange(seen.content, nullptr), std::exchange(seen.raw, nullptr)};
}

/// Whether the server lacks one of the secrets: one that it has is shown as "[REDACTED]".
bool lacks_secret(const Object& wanted, const Seen& seen) {
  const Json settings = seen.content.value("settings", Json::object());
  return std::any_of(wanted.secrets.begin(), wanted.secrets.end(),
                     [&](const auto& one) { return !settings.contains(one.first); });
}

/// One of these lets a change of that kind pass.
std::vector<std::vector<std::string>> permissions_for(Kind kind) {
  switch (kind) {
    case Kind::folder: return {{"folders:create"}, {"folders:write"}};
    case Kind::dashboard: return {{"dashboards:create"}, {"dashboards:write"}};
    case Kind::rule_group:
      return {{"alert.provisioning:write"},
              {"alert.rules.provisioning:write"},
              {"alert.rules:write", "alert.provisioning.provenance:write"},
              {"alert.rules:write"}};
    case Kind::template_group:
    case Kind::mute_timing:
    case Kind::contact_point:
    case Kind::routes:
      return {{"alert.provisioning:write"},
              {"alert.notifications.provisioning:write"},
              {"alert.notifications:write"}};
  }
  return {};
}

bool may(const std::set<std::string>& granted, Kind kind) {
  const auto ways = permissions_for(kind);
  return std::any_of(ways.begin(), ways.end(), [&](const auto& all) {
    return std::all_of(all.begin(), all.end(), [&](const auto& one) { return granted.contains(one); });
  });
}

std::string rule_conflict(const Object& wanted, const Observed& observed) {
  for (const Json& rule : wanted.content.value("rules", Json::array())) {
    const std::string uid = rule.value("uid", "");
    const auto place = observed.rule_places.find(uid);
    if (place == observed.rule_places.end() || place->second == wanted.key.id) continue;
    // A rule that moves between the pack's own groups is ours wherever it stands.
    const auto group = observed.objects.find({Kind::rule_group, place->second});
    if (group != observed.objects.end() && group->second.ours && group->second.strangers.empty()) continue;
    return "rule " + rule.value("title", "") + " (uid " + uid + ") stands in " + place->second +
           " and is not the pack's";
  }
  return {};
}

std::string conflict(const Object& wanted, const Seen* seen, const Observed& observed) {
  if (seen != nullptr && seen->provisioned)
    return "comes from files on the server (provenance file); change it there, or remove it from the "
           "server's provisioning";
  switch (wanted.key.kind) {
    case Kind::folder:
      if (seen != nullptr && seen->content != wanted.content)
        return "a folder with this uid is called \"" + seen->title + "\"; choose another uid in pack.yaml";
      break;
    case Kind::dashboard:
      if (seen != nullptr && !seen->ours)
        return "a dashboard with this uid exists (\"" + seen->title + "\"" +
               (seen->folder.empty() ? std::string() : ", folder " + seen->folder) +
               ") and does not carry the pack's tag; it is somebody else's";
      break;
    case Kind::rule_group:
      if (seen != nullptr && !seen->strangers.empty())
        return "the group holds rules that are not the pack's and would be deleted: " +
               seen->strangers.front() +
               (seen->strangers.size() > 1 ? " and " + std::to_string(seen->strangers.size() - 1) + " more"
                                           : "");
      if (seen != nullptr && !seen->provenance.empty() && seen->provenance != "api")
        return "the group's rules have provenance " + seen->provenance;
      return rule_conflict(wanted, observed);
    case Kind::contact_point: {
      const auto named = observed.contact_point_names.find(wanted.content.value("name", ""));
      if (seen == nullptr && named != observed.contact_point_names.end() && named->second)
        return "a contact point called " + named->first +
               " exists and is not the pack's; Grafana would make one of both. Rename the receiver";
      break;
    }
    case Kind::routes:
      if (observed.routes_provisioned)
        return "the notification policies come from files on the server (provenance file), and the pack's "
               "routes would be part of them; add them there, or run with --notifications none";
      break;
    default: break;
  }
  return {};
}

}  // namespace

std::string_view name(Action action) {
  switch (action) {
    case Action::none: return "unchanged";
    case Action::create: return "create";
    case Action::update: return "update";
    case Action::remove: return "delete";
  }
  return "";
}

std::size_t Plan::conflicts() const {
  return static_cast<std::size_t>(
      std::count_if(changes.begin(), changes.end(), [](const Change& one) { return !one.conflict.empty(); }));
}

std::size_t Plan::count(Action action) const {
  return static_cast<std::size_t>(
      std::count_if(changes.begin(), changes.end(), [&](const Change& one) { return one.action == action; }));
}

Plan plan(std::vector<Object> wanted, Observed observed, const std::set<std::string>& packs,
          const PlanOptions& options) {
  Plan result;
  std::set<Key> keys;
  if (!options.destroy) {
    for (Object& object : wanted) {
      keys.insert(object.key);
      const auto found = observed.objects.find(object.key);
      Seen* seen = found == observed.objects.end() ? nullptr : &found->second;
      Change change;
      if (seen == nullptr) {
        change.action = Action::create;
        change.send_secrets = true;
      } else {
        change.differences = differences(seen->content, object.content);
        if (object.key.kind == Kind::dashboard && seen->folder != object.folder)
          change.differences.push_back({"/folderUid", seen->folder, object.folder});
        const bool rotate = options.rotate_secrets && !object.secrets.empty();
        change.send_secrets = rotate || lacks_secret(object, *seen);
        if (!change.differences.empty() || rotate) change.action = Action::update;
      }
      if (change.action == Action::none) {
        ++result.unchanged;
        if (seen != nullptr) take_trees(*seen);
        continue;
      }
      change.conflict = conflict(object, seen, observed);
      if (seen != nullptr) {
        auto trees = take_trees(*seen);
        change.before = *seen;
        std::tie(change.before.content, change.before.raw) = std::move(trees);
      }
      // A secret that the server has already needs no value here.
      if (change.action == Action::create)
        for (const auto& one : object.missing) result.missing_secrets.push_back(one);
      change.wanted = std::move(object);
      result.changes.push_back(std::move(change));
    }
  }
  if (options.prune || options.destroy) {
    std::vector<Change> removals;
    for (const auto& [key, seen] : observed.objects) {
      if (keys.contains(key) || !seen.ours) continue;
      if (key.kind == Kind::folder && (!options.destroy || observed.shared_folders.contains(key.id))) {
        if (options.destroy)
          result.notes.push_back("folder " + key.id + " holds things that are not the pack's and stays");
        continue;
      }
      if (key.kind == Kind::folder) {
        // Its uid is all that a folder has in common with the pack; an empty one may be anybody's.
        const auto own =
            std::find_if(wanted.begin(), wanted.end(), [&](const Object& one) { return one.key == key; });
        if (own != wanted.end() && own->title != seen.title) {
          result.notes.push_back("folder " + key.id + " is called \"" + seen.title + "\", not \"" +
                                 own->title + "\", and stays");
          continue;
        }
      }
      Change change{.action = Action::remove, .before = seen};
      change.wanted.key = key;
      change.wanted.title = seen.title;
      change.wanted.pack = packs.size() == 1 ? *packs.begin() : std::string();
      if (seen.provisioned)
        change.conflict = "comes from files on the server (provenance file)";
      else if (!seen.strangers.empty())
        change.conflict = "the group also holds rules that are not the pack's: " + seen.strangers.front();
      removals.push_back(std::move(change));
    }
    std::reverse(removals.begin(), removals.end());  // in the opposite order of making
    for (auto& change : removals) result.changes.push_back(std::move(change));
  }
  if (observed.permissions) {
    std::set<Kind> refused;
    for (const auto& change : result.changes) {
      if (!may(*observed.permissions, change.wanted.key.kind)) refused.insert(change.wanted.key.kind);
    }
    for (const Kind kind : refused) {
      std::string ways;
      for (const auto& way : permissions_for(kind)) {
        ways += ways.empty() ? "" : " or ";
        for (std::size_t i = 0; i < way.size(); ++i) ways += (i > 0 ? " and " : "") + way[i];
      }
      result.missing_permissions.push_back("to write each " + std::string(name(kind)) + ": " + ways);
    }
  }
  return result;
}

}  // namespace tunnelctl::monitor
