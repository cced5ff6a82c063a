#include "tunnelctl/incident/incident.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>

#include "common/sha256.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl::incident {
namespace {

using grafana::flag_of;
using grafana::member;
using grafana::text_of;

struct SeverityWord {
  std::string_view word;
  Severity severity;
};

/// The name of each comes first.
constexpr std::array kSeverities = {
    SeverityWord{"critical", Severity::critical}, SeverityWord{"error", Severity::error},
    SeverityWord{"warning", Severity::warning},   SeverityWord{"info", Severity::info},
    SeverityWord{"major", Severity::error},       SeverityWord{"high", Severity::error},
    SeverityWord{"minor", Severity::warning},     SeverityWord{"medium", Severity::warning},
    SeverityWord{"low", Severity::info},          SeverityWord{"pending", Severity::info},
};

constexpr std::size_t kMaxKey = 64;
constexpr std::size_t kMaxValue = 255;

std::string lower(std::string_view text) {
  std::string result;
  std::transform(text.begin(), text.end(), std::back_inserter(result),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  return result;
}

bool is_key_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.' || c == '/' ||
         c == ':';
}

Result<Time> time_of(const Json& json, const char* key) {
  const auto text = text_of(json, key);
  auto time = times::moment(text, Time{});
  if (text.empty() || !time)
    return fail(Error::Kind::unavailable, std::string(key) + ": must be a time, as 2026-01-31T10:00:00.000Z");
  return *time;
}

Json to_json(const Note& note) {
  return {{"key", note.key},
          {"at", times::text(note.at)},
          {"body", note.body},
          {"author", note.author},
          {"kind", note.kind}};
}

}  // namespace

std::string_view name_of(Status status) {
  return status == Status::active ? "active" : "resolved";
}

std::string_view name_of(Severity severity) {
  return std::find_if(kSeverities.begin(), kSeverities.end(),
                      [&](const auto& one) { return one.severity == severity; })
      ->word;
}

Result<Severity> severity_of(std::string_view text) {
  const auto word = lower(text);
  for (const auto& one : kSeverities)
    if (one.word == word) return one.severity;
  return fail(Error::Kind::bad_input, "\"" + terminal::harmless(text) +
                                          "\" is no severity; there are: critical, error (major, high), "
                                          "warning (minor, medium), info (low, pending)");
}

Result<Status> status_of(std::string_view text) {
  const auto word = lower(text);
  if (word == "active" || word == "open") return Status::active;
  if (word == "resolved" || word == "closed") return Status::resolved;
  return fail(Error::Kind::bad_input,
              "\"" + terminal::harmless(text) + "\" is no status; there are: active, resolved");
}

Result<Label> label_of(std::string_view text) {
  const auto refuse = [&](const char* why) {
    return fail(Error::Kind::bad_input, "label \"" + terminal::harmless(text.substr(0, 80)) + "\": " + why);
  };
  const auto sign = text.find('=');
  Label label{.key = sign == std::string_view::npos ? "tag" : std::string(text.substr(0, sign)),
              .value = std::string(sign == std::string_view::npos ? text : text.substr(sign + 1))};
  if (label.key.empty() || label.value.empty()) return refuse("must read KEY=VALUE, or be one word");
  if (label.key.size() > kMaxKey) return refuse("the key is longer than 64 bytes");
  if (label.value.size() > kMaxValue) return refuse("the value is longer than 255 bytes");
  if (!std::all_of(label.key.begin(), label.key.end(), is_key_character))
    return refuse("the key may have letters, digits and _ - . / : only");
  if (terminal::harmless(label.value) != label.value)
    return refuse("the value has characters that are no text");
  return label;
}

void add_label(std::vector<Label>& labels, const Label& label) {
  if (std::find(labels.begin(), labels.end(), label) != labels.end()) return;
  const auto same = std::find_if(labels.begin(), labels.end(),
                                 [&](const Label& one) { return one.key == label.key && one.key != "tag"; });
  if (same == labels.end())
    labels.push_back(label);
  else
    *same = label;
}

bool has_labels(const std::vector<Label>& labels, const std::vector<Label>& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const Label& one) {
    return std::find(labels.begin(), labels.end(), one) != labels.end();
  });
}

std::string dedup_key_of(std::string_view title) {
  std::string key = "manual:";
  bool gap = false;
  for (const char c : lower(title)) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) == 0 && byte < 0x80U) {
      gap = key.back() != ':';
      continue;
    }
    if (gap) key += '-';
    gap = false;
    key += c;
  }
  // Titles without a letter are still different ones.
  if (key.back() == ':') key += to_hex(sha256(title)).substr(0, 16);
  return key;
}

Incident incident_of(const Opening& opening) {
  Incident incident;
  incident.dedup_key = opening.dedup_key;
  incident.title = opening.title;
  incident.severity = opening.severity;
  incident.drill = opening.drill;
  incident.room_prefix = opening.room_prefix;
  incident.labels = opening.labels;
  incident.attachments = opening.attachments;
  incident.opened = opening.at;
  incident.summary = opening.summary;
  return incident;
}

Json to_json(const std::vector<Label>& labels) {
  Json list = Json::array();
  for (const auto& label : labels) list.push_back({{"key", label.key}, {"value", label.value}});
  return list;
}

Json to_json(const std::vector<Attachment>& attachments) {
  Json list = Json::array();
  for (const auto& one : attachments) list.push_back({{"url", one.url}, {"caption", one.caption}});
  return list;
}

std::vector<Label> labels_of(const Json& json) {
  std::vector<Label> labels;
  if (!json.is_array()) return labels;
  for (const auto& one : json)
    if (Label label{text_of(one, "key"), text_of(one, "value")}; !label.key.empty())
      labels.push_back(std::move(label));
  return labels;
}

std::vector<Attachment> attachments_of(const Json& json) {
  std::vector<Attachment> attachments;
  if (!json.is_array()) return attachments;
  for (const auto& one : json)
    if (Attachment attachment{text_of(one, "url"), text_of(one, "caption")}; !attachment.url.empty())
      attachments.push_back(std::move(attachment));
  return attachments;
}

Json to_json(const Incident& incident) {
  Json notes = Json::array();
  for (const auto& note : incident.notes) notes.push_back(to_json(note));
  return {{"id", incident.id},
          {"backend", incident.backend},
          {"dedup_key", incident.dedup_key},
          {"title", incident.title},
          {"severity", name_of(incident.severity)},
          {"status", name_of(incident.status)},
          {"drill", incident.drill},
          {"room_prefix", incident.room_prefix},
          {"labels", to_json(incident.labels)},
          {"attachments", to_json(incident.attachments)},
          {"opened", times::text(incident.opened)},
          {"resolved", incident.resolved ? Json(times::text(*incident.resolved)) : Json(nullptr)},
          {"url", incident.url},
          {"summary", incident.summary},
          {"notes", std::move(notes)}};
}

Result<Incident> of_json(const Json& json) {
  if (!json.is_object()) return fail(Error::Kind::unavailable, "an incident must be an object");
  Incident incident;
  for (const auto& [key, field] :
       {std::pair{"id", &incident.id}, std::pair{"backend", &incident.backend},
        std::pair{"dedup_key", &incident.dedup_key}, std::pair{"title", &incident.title},
        std::pair{"room_prefix", &incident.room_prefix}, std::pair{"url", &incident.url},
        std::pair{"summary", &incident.summary}}) {
    if (!member(json, key).is_string())
      return fail(Error::Kind::unavailable, std::string(key) + ": must be text");
    *field = text_of(json, key);
  }
  const auto severity = severity_of(text_of(json, "severity"));
  if (!severity) return fail(Error::Kind::unavailable, "severity: " + severity.error().message);
  const auto status = status_of(text_of(json, "status"));
  if (!status) return fail(Error::Kind::unavailable, "status: " + status.error().message);
  const auto opened = time_of(json, "opened");
  if (!opened) return tl::unexpected(opened.error());
  incident.severity = *severity;
  incident.status = *status;
  incident.opened = *opened;
  incident.drill = flag_of(json, "drill");
  incident.labels = labels_of(member(json, "labels"));
  incident.attachments = attachments_of(member(json, "attachments"));
  if (!member(json, "resolved").is_null()) {
    const auto resolved = time_of(json, "resolved");
    if (!resolved) return tl::unexpected(resolved.error());
    incident.resolved = *resolved;
  }
  const auto& notes = member(json, "notes");
  if (!notes.is_array()) return fail(Error::Kind::unavailable, "notes: must be a list");
  for (const auto& one : notes) {
    const auto at = time_of(one, "at");
    if (!at) return fail(Error::Kind::unavailable, "notes: " + at.error().message);
    incident.notes.push_back({.key = text_of(one, "key"),
                              .at = *at,
                              .body = text_of(one, "body"),
                              .author = text_of(one, "author"),
                              .kind = text_of(one, "kind")});
  }
  return incident;
}

}  // namespace tunnelctl::incident
