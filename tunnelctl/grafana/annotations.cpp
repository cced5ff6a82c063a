#include "tunnelctl/grafana/annotations.h"

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr const char* kAnnotations = "/api/annotations";
constexpr std::size_t kAll = 100'000;
constexpr std::size_t kLongestTags = 500;  // all together; the server says so only afterwards

std::int64_t milliseconds(times::Time time) {
  return time.time_since_epoch().count();
}

times::Time time_of(const Json& object, const char* key) {
  return times::Time(std::chrono::milliseconds(number_of(object, key)));
}

Annotation annotation_of(const Json& json) {
  Annotation result{.id = number_of(json, "id"),
                    .time = time_of(json, "time"),
                    .end = time_of(json, "timeEnd"),
                    .text = text_of(json, "text"),
                    .dashboard_uid = text_of(json, "dashboardUID"),
                    .panel = number_of(json, "panelId"),
                    .by = text_of(json, "login"),
                    .alert = text_of(json, "alertName"),
                    .previous = text_of(json, "prevState"),
                    .current = text_of(json, "newState")};
  if (result.end < result.time) result.end = result.time;
  for (const auto& tag : member(json, "tags"))
    if (tag.is_string()) result.tags.push_back(tag.get<std::string>());
  return result;
}

Result<void> check_tags(const std::vector<std::string>& tags) {
  std::size_t length = 0;
  for (const auto& tag : tags) {
    if (tag.empty()) return fail(Error::Kind::bad_input, "an annotation's tag must not be empty");
    length += tag.size();
  }
  if (length > kLongestTags)
    return fail(Error::Kind::bad_input, "the tags have " + std::to_string(length) +
                                            " bytes together; Grafana takes " + std::to_string(kLongestTags));
  return {};
}

Result<Json> sent(Server& server, const Call& call) {
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  return std::move(answer->json);
}

/// One that does not exist is 404 for who may read it, and a bare 500 for who wants to annotate it.
Result<void> dashboard_exists(Server& server, const std::string& uid) {
  if (uid.empty()) return {};
  const auto answer = server.call({.path = "/api/dashboards/uid/" + escape(uid)});
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status != 404) return {};
  return fail(Error::Kind::not_found,
              "no dashboard has the uid \"" + uid + "\"; see: tunnelctl dashboard list");
}

}  // namespace

Result<Annotations> list_annotations(Server& server, const AnnotationFilter& filter) {
  // One more than wanted tells whether there are more.
  const auto limit = filter.limit == 0 ? kAll : filter.limit + 1;
  std::string path = std::string(kAnnotations) + "?limit=" + std::to_string(limit);
  if (filter.range)
    path += "&from=" + std::to_string(milliseconds(filter.range->from)) +
            "&to=" + std::to_string(milliseconds(filter.range->to));
  if (!filter.dashboard_uid.empty()) path += "&dashboardUID=" + escape(filter.dashboard_uid);
  if (filter.panel > 0) path += "&panelId=" + std::to_string(filter.panel);
  for (const auto& tag : filter.tags) path += "&tags=" + escape(tag);
  if (filter.any_tag) path += "&matchAny=true";
  if (!filter.type.empty()) path += "&type=" + escape(filter.type);
  const auto answer = server.get(path);
  if (!answer) return tl::unexpected(answer.error());
  Annotations result;
  for (const auto& item : *answer) result.items.push_back(annotation_of(item));
  if (result.items.empty())
    if (auto there = dashboard_exists(server, filter.dashboard_uid); !there)
      return tl::unexpected(there.error());
  result.more = filter.limit > 0 && result.items.size() > filter.limit;
  if (result.more) result.items.resize(filter.limit);
  return result;
}

Result<std::int64_t> create_annotation(Server& server, const Annotation& annotation) {
  if (annotation.text.empty()) return fail(Error::Kind::bad_input, "an annotation needs a text");
  if (annotation.end != times::Time{} && annotation.end < annotation.time)
    return fail(Error::Kind::bad_input, "the annotation's end is before its start");
  if (annotation.panel > 0 && annotation.dashboard_uid.empty())
    return fail(Error::Kind::bad_input, "a panel's annotation needs its dashboard too");
  if (auto good = check_tags(annotation.tags); !good) return tl::unexpected(good.error());
  if (auto there = dashboard_exists(server, annotation.dashboard_uid); !there)
    return tl::unexpected(there.error());
  Call call{
      .method = "POST",
      .path = kAnnotations,
      .body = {
          {"text", annotation.text}, {"tags", annotation.tags}, {"time", milliseconds(annotation.time)}}};
  if (annotation.end > annotation.time) call.body["timeEnd"] = milliseconds(annotation.end);
  if (!annotation.dashboard_uid.empty()) call.body["dashboardUID"] = annotation.dashboard_uid;
  if (annotation.panel > 0) call.body["panelId"] = annotation.panel;
  const auto answer = sent(server, call);
  if (!answer) return tl::unexpected(answer.error());
  return number_of(*answer, "id");
}

Result<Annotation> read_annotation(Server& server, std::int64_t id) {
  const Call call{.path = std::string(kAnnotations) + "/" + std::to_string(id)};
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 404)
    return fail(Error::Kind::not_found,
                "no annotation has the id " + std::to_string(id) + "; see: tunnelctl annotation list");
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  return annotation_of(answer->json);
}

Result<void> change_annotation(Server& server, const Annotation& present, const AnnotationChange& change) {
  // PUT, and all of it: PATCH can set nothing to empty.
  const auto time = change.time.value_or(present.time);
  const auto end = change.end.value_or(present.end == present.time ? time : present.end);
  const auto& text = change.text ? *change.text : present.text;
  const auto& tags = change.tags ? *change.tags : present.tags;
  if (text.empty()) return fail(Error::Kind::bad_input, "an annotation needs a text");
  if (end < time) return fail(Error::Kind::bad_input, "the annotation's end would be before its start");
  if (auto good = check_tags(tags); !good) return good;
  const Call call{
      .method = "PUT",
      .path = std::string(kAnnotations) + "/" + std::to_string(present.id),
      .body = {{"text", text}, {"tags", tags}, {"time", milliseconds(time)}, {"timeEnd", milliseconds(end)}}};
  const auto answer = sent(server, call);
  if (!answer) return tl::unexpected(answer.error());
  return {};
}

Result<void> delete_annotation(Server& server, std::int64_t id) {
  if (const auto present = read_annotation(server, id); !present) return tl::unexpected(present.error());
  const auto answer =
      sent(server, {.method = "DELETE", .path = std::string(kAnnotations) + "/" + std::to_string(id)});
  if (!answer) return tl::unexpected(answer.error());
  return {};
}

Result<std::vector<TagCount>> annotation_tags(Server& server, const std::string& part) {
  std::string path = std::string(kAnnotations) + "/tags?limit=" + std::to_string(kAll);
  if (!part.empty()) path += "&tag=" + escape(part);
  const auto answer = server.get(path);
  if (!answer) return tl::unexpected(answer.error());
  std::vector<TagCount> result;
  for (const auto& item : member(member(*answer, "result"), "tags"))
    result.push_back({.tag = text_of(item, "tag"), .count = number_of(item, "count")});
  return result;
}

}  // namespace tunnelctl::grafana
