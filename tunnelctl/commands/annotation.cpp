#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/annotations.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct AnnotationList {
  std::string from = "now-24h", to = "now";
  grafana::AnnotationFilter filter;
};

struct AnnotationCreate {
  std::string at, end;
  grafana::Annotation annotation;
};

struct AnnotationUpdate {
  std::int64_t id = 0;
  std::optional<std::string> text, at, end;
  std::optional<std::vector<std::string>> tags;
};

struct AnnotationDelete {
  std::int64_t id = 0;
  bool yes = false;
};

struct AnnotationTags {
  std::string part;
};

Json described(const grafana::Annotation& one) {
  Json json{{"id", one.id},        {"time", times::text(one.time)},  {"text", one.text},
            {"tags", one.tags},    {"dashboard", one.dashboard_uid}, {"panel", one.panel},
            {"created_by", one.by}};
  json["end"] = one.end > one.time ? Json(times::text(one.end)) : Json(nullptr);
  if (!one.alert.empty())
    json["alert"] = {{"name", one.alert}, {"previous", one.previous}, {"current", one.current}};
  return json;
}

std::string joined(const std::vector<std::string>& words) {
  std::string result;
  for (const auto& word : words) result += (result.empty() ? "" : ", ") + word;
  return terminal::harmless(result);
}

Result<times::Time> moment(const char* option, const std::string& text) {
  auto read = times::moment(text, now());
  if (!read)
    return tl::unexpected(Error{read.error().kind, std::string(option) + ": " + read.error().message});
  return read;
}

Result<ExitStatus> run(const AnnotationList& options, Session& session) {
  auto filter = options.filter;
  const auto range = times::range(options.from, options.to, now());
  if (!range) return tl::unexpected(range.error());
  filter.range = *range;
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto found = grafana::list_annotations(*server, filter);
  if (!found) return tl::unexpected(found.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : found->items) list.push_back(described(one));
    session.out << pretty({{"annotations", std::move(list)}, {"more", found->more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : found->items)
      rows.push_back({std::to_string(one.id), to_the_second(one.time),
                      one.end > one.time ? to_the_second(one.end) : "", terminal::harmless(one.dashboard_uid),
                      joined(one.tags), terminal::shortened(terminal::harmless(one.text), 200)});
    if (!rows.empty())
      terminal::print_table(session.out, {"ID", "TIME", "END", "DASHBOARD", "TAGS", "TEXT"}, rows);
  }
  say_shown(session, found->items.size(), found->more, "annotation");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AnnotationCreate& options, Session& session) {
  auto annotation = options.annotation;
  annotation.time = now();
  if (!options.at.empty()) {
    const auto at = moment("--at", options.at);
    if (!at) return tl::unexpected(at.error());
    annotation.time = *at;
  }
  if (!options.end.empty()) {
    const auto end = moment("--end", options.end);
    if (!end) return tl::unexpected(end.error());
    annotation.end = *end;
  }
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto id = grafana::create_annotation(*server, annotation);
  if (!id) return tl::unexpected(id.error());
  annotation.id = *id;
  if (session.json())
    session.out << pretty(described(annotation));
  else
    session.out << *id << '\n';
  session.say("annotation " + std::to_string(*id) + " made, at " + to_the_second(annotation.time));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AnnotationUpdate& options, Session& session) {
  grafana::AnnotationChange change{.text = options.text, .tags = options.tags};
  for (const auto& [text, name, to] :
       {std::tuple{&options.at, "--at", &change.time}, std::tuple{&options.end, "--end", &change.end}}) {
    if (!*text) continue;
    const auto read = moment(name, **text);
    if (!read) return tl::unexpected(read.error());
    *to = *read;
  }
  if (!change.text && !change.tags && !change.time && !change.end)
    return fail(Error::Kind::bad_input, "nothing says what to change: --text, --tag, --at or --end");
  // One empty tag stands for none.
  if (change.tags && *change.tags == std::vector<std::string>{""}) change.tags->clear();
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto present = grafana::read_annotation(*server, options.id);
  if (!present) return tl::unexpected(present.error());
  if (auto done = grafana::change_annotation(*server, *present, change); !done)
    return tl::unexpected(done.error());
  if (session.json()) {
    const auto after = grafana::read_annotation(*server, options.id);
    if (!after) return tl::unexpected(after.error());
    session.out << pretty(described(*after));
  }
  session.say("annotation " + std::to_string(options.id) + " updated");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AnnotationDelete& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto present = grafana::read_annotation(*server, options.id);
  if (!present) return tl::unexpected(present.error());
  const auto what = "delete annotation " + std::to_string(options.id) + " \"" +
                    terminal::shortened(present->text, 60) + "\"";
  if (auto status = unless_confirmed(session, options.yes, what)) return *status;
  if (auto done = grafana::delete_annotation(*server, options.id); !done) return tl::unexpected(done.error());
  if (session.json()) session.out << pretty({{"id", options.id}, {"deleted", true}});
  session.say("annotation " + std::to_string(options.id) + " deleted");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AnnotationTags& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto tags = grafana::annotation_tags(*server, options.part);
  if (!tags) return tl::unexpected(tags.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : *tags) list.push_back({{"tag", one.tag}, {"count", one.count}});
    session.out << pretty({{"tags", std::move(list)}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : *tags) rows.push_back({std::to_string(one.count), terminal::harmless(one.tag)});
    if (!rows.empty()) terminal::print_table(session.out, {"COUNT", "TAG"}, rows);
  }
  say_shown(session, tags->size(), false, "tag");
  return ExitStatus::ok;
}

void add_list(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<AnnotationList>();
  auto& verb = add_verb(
      group, chosen, "list", "Lists annotations, the newest first",
      "  tunnelctl annotation list --tag deploy --from now-7d\n"
      "  tunnelctl annotation list --dashboard tunnel-overview --output json | jq '.annotations[].text'",
      options);
  verb.add_option("--from", options->from, "from when")->type_name("TIME")->capture_default_str();
  verb.add_option("--to", options->to, "until when")->type_name("TIME")->capture_default_str();
  auto& filter = options->filter;
  verb.add_option("--dashboard", filter.dashboard_uid, "only those of this dashboard")->type_name("UID");
  verb.add_option("--panel", filter.panel, "only those of this panel of it")->type_name("NUMBER");
  verb.add_option("--tag", filter.tags, "only those with this tag; several: with all of them")
      ->allow_extra_args(false)
      ->type_name("TAG");
  verb.add_flag("--any", filter.any_tag, "one of the tags is enough");
  verb.add_option("--type", filter.type,
                  "alert: changes of alerts; annotation: what people and programs wrote")
      ->check(CLI::IsMember({"alert", "annotation"}))
      ->type_name("TYPE");
  add_limit(verb, filter.limit);
}

void add_create(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<AnnotationCreate>();
  auto& verb = add_verb(
      group, chosen, "create", "Marks a moment, or a time from its start to its end",
      "  tunnelctl annotation create \"edge 1.4.2 rolled out\" --tag deploy --tag edge\n"
      "  tunnelctl annotation create \"maintenance\" --at now-30m --end now --dashboard tunnel-overview",
      options);
  auto& note = options->annotation;
  verb.add_option("text", note.text, "what happened")->required()->type_name("TEXT");
  verb.add_option("--at", options->at, "when it was, or began; default: now")->type_name("TIME");
  verb.add_option("--end", options->end, "when it ended")->type_name("TIME");
  verb.add_option("--tag", note.tags, "a tag; several times for several")
      ->allow_extra_args(false)
      ->type_name("TAG");
  verb.add_option("--dashboard", note.dashboard_uid, "on this dashboard; default: on all of the organisation")
      ->type_name("UID");
  verb.add_option("--panel", note.panel, "on this panel of it")->type_name("NUMBER");
}

void add_update(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<AnnotationUpdate>();
  auto& verb = add_verb(group, chosen, "update", "Changes what is named of an annotation, and keeps the rest",
                        "  tunnelctl annotation update 42 --end now\n"
                        "  tunnelctl annotation update 42 --text \"rolled back\" --tag deploy --tag rollback",
                        options);
  verb.add_option("id", options->id, "its number")->required()->type_name("ID");
  verb.add_option("--text", options->text, "what happened")->type_name("TEXT");
  verb.add_option("--tag", options->tags, "these tags instead of all it has; '' for none")
      ->allow_extra_args(false)
      ->type_name("TAG");
  verb.add_option("--at", options->at, "when it was, or began")->type_name("TIME");
  verb.add_option("--end", options->end, "when it ended")->type_name("TIME");
}

}  // namespace

void add_annotation(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("annotation", "Annotations: marks on the time axis of dashboards");
  group.require_subcommand(1);
  add_list(group, chosen);
  add_create(group, chosen);
  add_update(group, chosen);
  {
    auto options = std::make_shared<AnnotationDelete>();
    auto& verb = add_verb(group, chosen, "delete", "Deletes an annotation",
                          "  tunnelctl annotation delete 42\n"
                          "  tunnelctl annotation delete 42 --yes --output json",
                          options);
    verb.add_option("id", options->id, "its number")->required()->type_name("ID");
    verb.add_flag("-y,--yes", options->yes, "do not ask");
  }
  {
    auto options = std::make_shared<AnnotationTags>();
    add_verb(group, chosen, "tags", "Lists the tags that annotations have",
             "  tunnelctl annotation tags\n"
             "  tunnelctl annotation tags --tag deploy --output json",
             options)
        .add_option("--tag", options->part, "only those with this in them")
        ->type_name("TEXT");
  }
}

}  // namespace tunnelctl
