#include "tunnelctl/commands/mcp_tools.h"

#include <cctype>

namespace tunnelctl {
namespace {

using Kind = ToolArgument::Kind;
using mcp::Effect;

std::string text(const Json& arguments, const char* name) {
  const auto found = arguments.find(name);
  return found != arguments.end() && found->is_string() ? found->get<std::string>() : "";
}

Result<void> one_datasource(const Json& arguments, CommandLine& line) {
  const auto uid = text(arguments, "uid");
  const auto& name = uid.empty() ? text(arguments, "name") : uid;
  if (name.empty()) return fail(Error::Kind::bad_input, "uid or name is required");
  line.positional = {name};
  return {};
}

/// "dashboard list" and "folder list" take no text, "search" takes nothing else.
Result<void> search_or_list(const Json& arguments, CommandLine& line) {
  if (text(arguments, "query").empty()) return {};
  line.words[1] = "search";
  line.positional = {text(arguments, "query")};
  return {};
}

/// "tunnel-health" of "Tunnel Health": the same title is the same dashboard. At most 40 characters, as
/// Grafana takes them; "" of a title without any letter or digit of ASCII.
std::string uid_of(const std::string& title) {
  constexpr std::size_t kLongest = 40;
  std::string uid;
  for (const char c : title) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0)
      uid += static_cast<char>(std::tolower(byte));
    else if (!uid.empty() && uid.back() != '-')
      uid += '-';
    if (uid.size() == kLongest) break;
  }
  while (uid.ends_with('-')) uid.pop_back();
  return uid;
}

/// The command wants a uid, so that it makes no second one; Grafana's server takes dashboards without.
Result<void> dashboard_as_input(const Json& arguments, CommandLine& line) {
  const auto& dashboard = arguments["dashboard"];
  if (text(dashboard, "uid").empty() && text(arguments, "uid").empty())
    if (const auto uid = uid_of(text(dashboard, "title")); !uid.empty()) line.words.push_back("--uid=" + uid);
  line.positional = {"-"};
  line.input = arguments["dashboard"].dump(-1, ' ', false, Json::error_handler_t::replace);
  return {};
}

Result<void> create_or_patch(const Json& arguments, CommandLine& line) {
  const bool whole = arguments.contains("dashboard");
  if (whole == arguments.contains("operations"))
    return fail(Error::Kind::bad_input, "say either dashboard, the whole of it, or uid and operations");
  const auto uid = text(arguments, "uid");
  if (whole) {
    line.words[1] = "create";
    if (!uid.empty()) line.words.push_back("--uid=" + uid);
    if (const auto folder = text(arguments, "folderUid"); !folder.empty())
      line.words.push_back("--folder=" + folder);
    return dashboard_as_input(arguments, line);
  }
  if (uid.empty()) return fail(Error::Kind::bad_input, "uid is required with operations");
  if (arguments.contains("folderUid"))
    return fail(Error::Kind::bad_input, "folderUid goes with dashboard; operations leave it where it is");
  line.words.emplace_back("--ops=-");
  line.positional = {uid};
  line.input = arguments["operations"].dump(-1, ' ', false, Json::error_handler_t::replace);
  return {};
}

bool is_of_a_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// Panels of the summary: only those asked for, and only what a query needs.
Json panel_queries(const Json& arguments, const Json& summary) {
  Json list = Json::array();
  const auto wanted = text(arguments, "panelId");
  const auto& variables = arguments.contains("variables") ? arguments["variables"] : Json();
  const auto filled = [&](std::string query) {
    for (const auto& [name, value] : variables.items()) {
      const auto with = value.is_string() ? value.get<std::string>() : value.dump();
      for (const auto& form : {"$" + name, "${" + name + "}", "[[" + name + "]]"}) {
        for (auto at = query.find(form); at != std::string::npos; at = query.find(form, at)) {
          // "$job" is not the beginning of "$jobs".
          const auto end = at + form.size();
          const bool longer = end < query.size() && is_of_a_name(form.back()) && is_of_a_name(query[end]);
          if (!longer) query.replace(at, form.size(), with);
          at += longer ? form.size() : with.size();
        }
      }
    }
    return query;
  };
  for (const auto& panel : summary.value("panels", Json::array())) {
    const auto& id = panel.value("id", Json());
    if (!wanted.empty() && (id.is_string() ? id.get<std::string>() : id.dump()) != wanted) continue;
    for (const auto& query : panel.value("queries", Json::array())) {
      Json one{{"panel_id", id}, {"title", panel.value("title", Json())}};
      one.update(query);
      if (variables.is_object() && one.contains("query") && one["query"].is_string())
        one["processed_query"] = filled(one["query"].get<std::string>());
      list.push_back(std::move(one));
    }
  }
  return {{"queries", std::move(list)}};
}

Result<void> link_of(const Json& arguments, CommandLine& line) {
  const auto kind = text(arguments, "resourceType");
  line.words[1] = kind;
  const auto missing = [&](const char* name) {
    return fail(Error::Kind::bad_input, std::string(name) + " is required for resourceType " + kind);
  };
  const auto range = arguments.value("timeRange", Json::object());
  for (const auto& [end, value] : range.items()) {
    const bool known = (end == "from" || end == "to") && (value.is_string() || value.is_number());
    if (!known && !value.is_null())
      return fail(Error::Kind::bad_input,
                  "timeRange: has from and to, each a time as now-1h, RFC 3339 or a "
                  "number since 1970");
    const auto time = value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump();
    if (!time.empty()) line.words.push_back("--" + end + "=" + time);
  }
  if (kind == "explore") {
    if (text(arguments, "datasourceUid").empty()) return missing("datasourceUid");
    for (const auto& query : arguments.value("queries", Json::array())) {
      const auto expr = query.is_object() ? query.value("expr", Json()) : query;
      if (!expr.is_string() || expr == "")
        return fail(Error::Kind::bad_input, "queries: each needs expr, its text");
      line.words.push_back("--query=" + expr.get<std::string>());
    }
    line.positional = {text(arguments, "datasourceUid")};
    return {};
  }
  if (text(arguments, "dashboardUid").empty()) return missing("dashboardUid");
  line.positional = {text(arguments, "dashboardUid")};
  const auto parameters = arguments.value("queryParams", Json::object());
  for (const auto& [name, value] : parameters.items()) {
    constexpr std::string_view kVariable = "var-";
    if (!name.starts_with(kVariable))
      return fail(Error::Kind::bad_input, "queryParams: only template variables are taken, as var-NAME");
    for (const auto& one : value.is_array() ? value : Json::array({value}))
      line.words.push_back("--var=" + name.substr(kVariable.size()) + "=" +
                           (one.is_string() ? one.get<std::string>() : one.dump()));
  }
  if (kind != "panel") return {};
  if (text(arguments, "panelId").empty()) return missing("panelId");
  line.positional.push_back(text(arguments, "panelId"));
  return {};
}

}  // namespace

std::vector<CommandTool> datasource_tools() {
  return {
      {.name = "list_datasources",
       .description = "Lists Grafana's data sources: uid, name, type.",
       .command = "datasource list",
       .arguments = {{.name = "type", .help = "e.g. prometheus, loki", .to = "--type"},
                     {.name = "name", .help = "part of the name", .to = "--name"},
                     {.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = "50"},
                     from_the_first()},
       .narrow = "type, name",
       .sample = R"({"type": "loki", "name": "prod", "limit": "5"})"},
      {.name = "get_datasource",
       .description = "Settings of one data source, without secrets; uid or name.",
       .command = "datasource get",
       .arguments = {{.name = "uid", .to = nullptr}, {.name = "name", .to = nullptr}},
       .compose = one_datasource,
       .sample = R"({"name": "-x"})"},
      {.name = "check_datasources_health",
       .description = "Asks data sources whether they answer.",
       .command = "datasource check",
       .arguments = {{.name = "uids", .help = "default: all", .kind = Kind::texts},
                     {.name = "type", .to = "--type"},
                     from_the_first()},
       .narrow = "uids, type",
       .answers_with = {ExitStatus::failure},
       .sample = R"({"uids": ["a", "--b"], "type": "loki"})"},
  };
}

std::vector<CommandTool> dashboard_tools() {
  return {
      {.name = "search_dashboards",
       .description = "Finds dashboards by words of their title, folder and tags.",
       .command = "dashboard list",
       .arguments = {{.name = "query", .help = "words of the title", .to = nullptr},
                     {.name = "tags", .help = "all of them", .kind = Kind::texts, .to = "--tag"},
                     {.name = "folderUid", .to = "--folder"},
                     {.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = "50"},
                     first_page()},
       .narrow = "query, tags, folderUid, limit",
       .compose = search_or_list,
       .sample = R"({"query": "--limit", "tags": ["a", "b"], "folderUid": "f", "limit": 3})"},
      {.name = "get_dashboard_by_uid",
       .description = "A dashboard's whole JSON; large: prefer summary or property.",
       .command = "dashboard get",
       .arguments = {{.name = "uid", .required = true},
                     {.name = "version",
                      .help = "as saved then",
                      .kind = Kind::integer,
                      .to = "--version",
                      .least = 1}},
       .always = {"--meta"},
       .narrow = "get_dashboard_summary, get_dashboard_property",
       .sample = R"({"uid": "-u", "version": 2})"},
      {.name = "get_dashboard_summary",
       .description = "A dashboard's panels, queries, variables and time range.",
       .command = "dashboard summary",
       .arguments = {{.name = "uid", .required = true}},
       .narrow = "get_dashboard_panel_queries with panelId, get_dashboard_property",
       .sample = R"({"uid": "u"})"},
      {.name = "get_dashboard_property",
       .description = "What a JSONPath finds in a dashboard.",
       .command = "dashboard property",
       .arguments = {{.name = "uid", .required = true},
                     {.name = "jsonPath", .help = "e.g. $.panels[*].title", .required = true}},
       .narrow = "a narrower jsonPath",
       .sample = R"({"uid": "u", "jsonPath": "$.panels[*].title"})"},
      {.name = "get_dashboard_panel_queries",
       .description = "The queries of a dashboard's panels.",
       .command = "dashboard summary",
       .arguments = {{.name = "uid", .required = true},
                     {.name = "panelId", .help = "only this one", .to = nullptr},
                     {.name = "variables",
                      .help = "values by name; then processed_query has them filled in",
                      .kind = Kind::object,
                      .to = nullptr}},
       .narrow = "panelId",
       .shape = panel_queries,
       .sample = R"({"uid": "u", "panelId": 4, "variables": {"job": "api"}})"},
      {.name = "update_dashboard",
       .description = "Saves a dashboard: a whole one (dashboard), or changes to one (uid, operations).",
       .command = "dashboard patch",
       .arguments = {{.name = "uid", .to = nullptr},
                     {.name = "dashboard", .help = "its whole JSON", .kind = Kind::object, .to = nullptr},
                     {.name = "operations",
                      .help = "[{op: replace|add|remove, path: JSONPath, value}], in that order",
                      .kind = Kind::objects,
                      .to = nullptr},
                     {.name = "folderUid", .help = "for a new one", .to = nullptr},
                     {.name = "message", .help = "for the list of versions", .to = "--message"},
                     {.name = "overwrite",
                      .help = "whoever changed it meanwhile",
                      .kind = Kind::flag,
                      .to = "--force"},
                     {.name = "userId", .kind = Kind::integer, .unused = true}},
       .effect = Effect::replaces,
       .compose = create_or_patch,
       .sample =
           R"({"uid": "u", "operations": [{"op": "remove", "path": "$.a"}], "message": "-m", "overwrite": true})"},
      {.name = "create_dashboard",
       .description = "Makes a dashboard from its JSON, or with overwrite replaces the one of its uid.",
       .command = "dashboard create",
       .arguments = {{.name = "dashboard",
                      .help = "its whole JSON; without uid: one made of its title",
                      .kind = Kind::object,
                      .to = nullptr,
                      .required = true},
                     {.name = "folderUid", .to = "--folder"},
                     {.name = "message", .to = "--message"},
                     {.name = "overwrite", .kind = Kind::flag, .to = "--force"}},
       .effect = Effect::replaces,
       .compose = dashboard_as_input,
       .sample = R"({"dashboard": {"title": "T"}, "folderUid": "f", "message": "m", "overwrite": true})"},
      {.name = "search_folders",
       .description = "Finds folders by words of their title; without: those of the root.",
       .command = "folder list",
       .arguments = {{.name = "query", .to = nullptr},
                     {.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = "50"}},
       .narrow = "query, limit",
       .compose = search_or_list,
       .sample = R"({"query": "a b"})"},
      {.name = "create_folder",
       .description = "Makes a folder.",
       .command = "folder create",
       .arguments = {{.name = "title", .required = true},
                     {.name = "uid", .to = "--uid"},
                     {.name = "parentUid", .to = "--parent"}},
       .effect = Effect::adds,
       .sample = R"({"title": "T", "uid": "u", "parentUid": "p"})"},
      {.name = "generate_deeplink",
       .description = "The address of a dashboard, a panel, or Explore with queries.",
       .command = "link dashboard",
       .arguments =
           {{.name = "resourceType",
             .to = nullptr,
             .required = true,
             .words = {"dashboard", "panel", "explore"}},
            {.name = "dashboardUid", .to = nullptr},
            {.name = "panelId", .to = nullptr},
            {.name = "datasourceUid", .help = "for explore", .to = nullptr},
            {.name = "queries", .help = "for explore: [{expr}]", .kind = Kind::objects, .to = nullptr},
            {.name = "queryParams", .help = "{\"var-NAME\": value}", .kind = Kind::object, .to = nullptr},
            {.name = "timeRange", .help = "{from, to}", .kind = Kind::object, .to = nullptr},
            {.name = "shorten", .kind = Kind::flag, .unused = true}},
       .compose = link_of,
       .sample =
           R"({"resourceType": "panel", "dashboardUid": "u", "panelId": 4, "queryParams": {"var-job": "a b"},
                     "timeRange": {"from": "now-1h", "to": "now"}})"},
  };
}

}  // namespace tunnelctl
