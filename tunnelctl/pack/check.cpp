#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "tunnelctl/logql/parser.h"
#include "tunnelctl/pack/load_parts.h"
#include "tunnelctl/pack/queries.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::pack {
namespace {

constexpr std::size_t kLongestUid = 40;

std::string uid_problem(std::string_view uid) {
  if (uid.size() > kLongestUid) return "uid " + std::string(uid) + " is longer than 40 characters";
  const bool plain = std::all_of(uid.begin(), uid.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
  });
  if (!plain) return "uid " + std::string(uid) + " may hold letters, digits, - and _ only";
  return {};
}

/// As the web shows headings: "## What to do?" is "#what-to-do".
std::string anchor(std::string_view heading) {
  std::string result;
  for (const char c : heading) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_')
      result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (c == ' ')
      result += '-';
  }
  return result;
}

bool has_anchor(const std::string& text, std::string_view wanted) {
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    if (line.starts_with('#') && line.find(' ') != std::string_view::npos &&
        anchor(line.substr(line.find(' ') + 1)) == wanted)
      return true;
    at = end + 1;
  }
  return false;
}

class Checker {
 public:
  Checker(const Pack& pack, Problems& problems) : pack_(pack), problems_(problems) {}

  void run() {
    if (const auto wrong = uid_problem(pack_.folder_uid); !wrong.empty())
      problem({pack_.manifest.string()}, "folder", wrong);
    dashboards();
    rules();
    exceptions(pack_.allow_empty);
    // What lint finds in routes, runbooks and the contract has names of its own; it says itself which entries
    // suppress nothing.
    std::vector<Exception> of_queries = pack_.lint_ignore;
    std::erase_if(of_queries, [](const Exception& one) {
      return one.object.starts_with("alertmanager/") || one.object.starts_with("runbook/") ||
             one.object.starts_with("contract/");
    });
    exceptions(of_queries);
  }

 private:
  void problem(const Place& place, std::string object, std::string message) {
    problems_.push_back({place, std::move(object), std::move(message)});
  }

  std::string link_problem(const std::string& link) const {
    if (link.find("://") != std::string::npos || link.starts_with('/') || link.starts_with('#') ||
        link.find('$') != std::string::npos)
      return {};
    if (pack_.runbook_prefix.empty() || !link.starts_with(pack_.runbook_prefix))
      return "link " + link + " leads nowhere; a runbook's is " + pack_.runbook_prefix +
             "<name>.md, others are whole URLs";
    const std::string page = link.substr(pack_.runbook_prefix.size());
    const std::string name = page.substr(0, page.find(".md"));
    const auto found = std::find_if(pack_.runbooks.begin(), pack_.runbooks.end(),
                                    [&](const Runbook& one) { return one.name == name; });
    if (found == pack_.runbooks.end())
      return "link " + link + ": there is no such runbook in " + pack_.runbook_folder.string();
    if (const auto hash = page.find('#');
        hash != std::string::npos && !has_anchor(found->text, page.substr(hash + 1)))
      return "link " + link + ": the runbook has no heading " + page.substr(hash);
    return {};
  }

  void links(const Dashboard& dashboard, const Json& holder, const std::string& object) {
    const auto list = holder.find("links");
    if (list == holder.end() || !list->is_array()) return;
    for (const Json& link : *list) {
      if (!link.is_object() || !link.contains("url") || !link["url"].is_string()) continue;
      const std::string url = link["url"];
      if (url.empty()) continue;
      if (const auto wrong = link_problem(url); !wrong.empty()) problem(dashboard.place, object, wrong);
    }
  }

  void dashboards() {
    std::map<std::string, std::string> seen;
    for (const auto& dashboard : pack_.dashboards) {
      if (dashboard.uid.empty()) continue;
      if (const auto wrong = uid_problem(dashboard.uid); !wrong.empty()) problem(dashboard.place, "", wrong);
      if (const auto [other, fresh] = seen.emplace(dashboard.uid, dashboard.place.file); !fresh)
        problem(dashboard.place, "", "uid " + dashboard.uid + " is that of " + other->second);
      links(dashboard, dashboard.json, "links");
      for (const Json* panel : panels(dashboard.json))
        if (panel->is_object())
          links(dashboard, *panel, "panel " + (panel->contains("id") ? (*panel)["id"].dump() : "?"));
      queries_of(dashboard);
    }
  }
  void queries_of(const Dashboard& dashboard) {
    const auto known = variables(dashboard);
    for (const auto& query : queries(dashboard)) {
      const std::string object = "panel " + std::to_string(query.panel) + " " + query.ref;
      if (const auto name = variable_name(query.datasource); name && !known.contains(*name))
        problem(dashboard.place, object, "data source $" + *name + " is no variable of the dashboard");
      const auto expanded = promql::expand(query.expr, known);
      for (const auto& name : expanded.undefined)
        problem(dashboard.place, object, "$" + name + " is no variable of the dashboard");
      if (!expanded.undefined.empty()) continue;
      std::optional<Error> wrong;
      if (query.type == "prometheus")
        if (const auto parsed = promql::parse(expanded.text); !parsed) wrong = parsed.error();
      if (query.type == "loki")
        if (const auto parsed = logql::parse(expanded.text); !parsed) wrong = parsed.error();
      if (wrong) problem(dashboard.place, object, wrong->message + " in: " + query.expr);
    }
  }

  bool has_panel(const std::string& uid, const std::string& panel) const {
    for (const auto& dashboard : pack_.dashboards) {
      if (dashboard.uid != uid) continue;
      if (panel.empty()) return true;
      for (const Json* one : panels(dashboard.json))
        if (one->is_object() && one->contains("id") && (*one)["id"].dump() == panel) return true;
    }
    return false;
  }

  void rules() {
    std::map<std::string, Place> names;
    std::map<std::string, Place> groups;
    for (const auto& file : pack_.rule_files) {
      for (const auto& group : file.groups) {
        if (const auto [other, fresh] = groups.emplace(group.name, group.place); !fresh)
          problem(group.place, group.name, "another group of the pack has this name: " + text(other->second));
        for (const auto& rule : group.rules) {
          // A recorded series may have several rules, one for each of its labels.
          if (!rule.alert.empty())
            if (const auto [other, fresh] = names.emplace(rule.alert, rule.place); !fresh)
              problem(rule.place, rule.alert,
                      "another alert of the pack has this name: " + text(other->second));
          annotations(rule);
        }
      }
    }
  }

  void annotations(const Rule& rule) {
    if (const auto link = rule.annotations.find("runbook_url"); link != rule.annotations.end())
      if (const auto wrong = link_problem(link->second); !wrong.empty())
        problem(rule.place, rule.name(), wrong);
    const auto uid = rule.annotations.find("dashboard_uid");
    const auto panel = rule.annotations.find("panel_id");
    if (panel != rule.annotations.end() && uid == rule.annotations.end())
      problem(rule.place, rule.name(), "panel_id needs dashboard_uid beside it");
    if (uid == rule.annotations.end()) return;
    const std::string id = panel == rule.annotations.end() ? "" : panel->second;
    if (!has_panel(uid->second, id))
      problem(rule.place, rule.name(),
              "the pack has no dashboard " + uid->second + (id.empty() ? "" : " with a panel " + id));
  }

  bool exists(const std::string& object) const {
    if (object.starts_with("rule/")) {
      for (const auto& file : pack_.rule_files)
        for (const auto& group : file.groups)
          for (const auto& rule : group.rules)
            if ("rule/" + rule.name() == object) return true;
      return false;
    }
    const auto slash = object.find('/');
    if (slash == std::string::npos) return has_panel(object, "");
    const std::string panel = object.substr(slash + 1);
    return has_panel(object.substr(0, slash), panel.substr(0, panel.find('/')));
  }

  void exceptions(const std::vector<Exception>& list) {
    for (const auto& one : list)
      if (!exists(one.object))
        problem(one.place, one.object,
                "is an exception for something the pack does not have; it is <dashboard uid>[/<panel "
                "id>[/<refId>]] or rule/<name>");
  }

  const Pack& pack_;
  Problems& problems_;
};

}  // namespace

void check(const Pack& pack, Problems& problems) {
  Checker(pack, problems).run();
}

void check_together(const std::vector<Pack>& packs, Problems& problems) {
  std::map<std::string, const Pack*> uids;
  std::map<std::string, const Pack*> names;
  for (const auto& pack : packs) {
    if (const auto [other, fresh] = names.emplace(pack.name, &pack); !fresh)
      problems.push_back(
          {{pack.manifest.string()},
           "name",
           "another pack is called " + pack.name + ", too: " + other->second->manifest.string()});
    for (const auto& dashboard : pack.dashboards)
      if (const auto [other, fresh] = uids.emplace(dashboard.uid, &pack); !fresh && other->second != &pack)
        problems.push_back({dashboard.place, "",
                            "uid " + dashboard.uid + " is one of pack " + other->second->name + ", too"});
  }
}

}  // namespace tunnelctl::pack
