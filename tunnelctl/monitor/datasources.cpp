#include "tunnelctl/monitor/datasources.h"

#include <algorithm>
#include <optional>

namespace tunnelctl::monitor {
namespace {

using Found = std::vector<const FoundDatasource*>;

Found of_type(const std::vector<FoundDatasource>& all, const std::string& type) {
  Found result;
  for (const auto& one : all)
    if (one.type == type) result.push_back(&one);
  return result;
}

/// By uid, else by name; Grafana keeps both unique.
const FoundDatasource* called(const Found& among, const std::string& uid_or_name) {
  for (const auto* one : among)
    if (one->uid == uid_or_name) return one;
  for (const auto* one : among)
    if (one->name == uid_or_name) return one;
  return nullptr;
}

/// "; of type prometheus there are: Main (uid m1), Other (uid o2)"
std::string list(const Found& found, const std::string& type) {
  if (found.empty()) return "; the server has none of type " + type + " that these credentials may see";
  std::string result = "; of type " + type + (found.size() == 1 ? " there is: " : " there are: ");
  for (std::size_t i = 0; i < found.size(); ++i)
    result += (i == 0 ? "" : ", ") + found[i]->name + " (uid " + found[i]->uid + ")";
  return result;
}

std::string remedy(const pack::Pack& pack, const pack::Datasource& wanted) {
  return "; name one by --datasource " + wanted.variable + "=UID, or by the key uid in " +
         text(wanted.place.file.empty() ? pack::Place{pack.manifest.string()} : wanted.place);
}

}  // namespace

Result<std::map<std::string, ServerDatasource>> choose_datasources(
    const pack::Pack& pack, const std::vector<FoundDatasource>& found,
    const std::map<std::string, std::string>& overrides) {
  std::map<std::string, ServerDatasource> result;
  std::string problems;
  bool missing_only = true;
  const auto problem = [&](const pack::Datasource& wanted, const std::string& what, bool missing) {
    problems += (problems.empty() ? "" : "\n") + ("data source variable " + wanted.variable) + ": " + what;
    missing_only = missing_only && missing;
  };
  for (const auto& wanted : pack.datasources) {
    const Found candidates = of_type(found, wanted.type);
    const auto take = [&](const FoundDatasource& one) {
      result[wanted.variable] = {one.uid, one.name, one.type};
    };
    if (const auto named = overrides.find(wanted.variable); named != overrides.end()) {
      const std::string option = "--datasource " + wanted.variable + "=" + named->second;
      if (named->second.empty() && wanted.optional) continue;
      const auto* one = called(candidates, named->second);
      if (one != nullptr) {
        take(*one);
        continue;
      }
      Found all;
      for (const auto& any : found) all.push_back(&any);
      const auto* other = called(all, named->second);
      problem(wanted,
              option +
                  (other != nullptr ? " is of type " + other->type + ", and " + wanted.type + " is needed"
                                    : " names no data source by uid or name") +
                  list(candidates, wanted.type),
              other == nullptr);
      continue;
    }
    if (const std::string& name = wanted.uid.empty() ? wanted.name : wanted.uid; !name.empty()) {
      const auto* one = called(candidates, name);
      if (one != nullptr)
        take(*one);
      else if (!wanted.optional)
        problem(wanted,
                text(wanted.place) + " names " + name + ", which the server does not have" +
                    list(candidates, wanted.type) + remedy(pack, wanted),
                true);
      continue;
    }
    const auto standard = std::find_if(candidates.begin(), candidates.end(),
                                       [](const FoundDatasource* one) { return one->is_default; });
    if (standard != candidates.end())
      take(**standard);
    else if (candidates.size() == 1)
      take(*candidates.front());
    else if (candidates.empty() && !wanted.optional)
      problem(wanted,
              "there is no data source for it" + list(candidates, wanted.type) +
                  "; add one in Grafana (Connections, Data sources), or give the service account the "
                  "permission datasources:read" +
                  remedy(pack, wanted),
              true);
    else if (!candidates.empty())
      problem(wanted,
              "several could be meant and none is the default" + list(candidates, wanted.type) +
                  remedy(pack, wanted),
              false);
  }
  if (!problems.empty())
    return fail(missing_only ? Error::Kind::not_found : Error::Kind::bad_input, std::move(problems));
  return result;
}

}  // namespace tunnelctl::monitor
