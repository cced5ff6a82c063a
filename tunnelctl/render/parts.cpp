#include "tunnelctl/render/parts.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <memory>

namespace tunnelctl::render {
namespace {

std::string file_name(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);
}

/// For a secret that pack.yaml has no name for: "secrets/slack-url" of pack "tunnel" -> "TUNNEL_SLACK_URL".
std::string made_up_environment(const pack::Pack& pack, const std::string& file) {
  std::string result;
  for (const char c : own_name(pack, file_name(file)))
    result += std::isalnum(static_cast<unsigned char>(c)) != 0
                  ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
                  : '_';
  return result;
}

}  // namespace

Work::Work(const pack::Pack& the_pack, const RenderOptions& the_options, std::vector<std::string>& the_notes)
    : pack(the_pack), options(the_options), notes(the_notes), compile_options(the_options.compile) {
  compile_options.notifications = monitor::Notifications::all;
  compile_options.datasources.clear();
  for (const auto& wanted : pack.datasources) {
    const auto named = options.datasource_uids.find(wanted.variable);
    const std::string uid = named != options.datasource_uids.end() ? named->second
                            : !wanted.uid.empty()                  ? wanted.uid
                                                                   : wanted.type;
    compile_options.datasources[wanted.variable] = {
        .uid = uid, .name = wanted.name.empty() ? uid : wanted.name, .type = wanted.type};
  }
  // In place of a value a marker, by which the format finds what it writes instead.
  compile_options.secret = [this](const pack::SecretSource& source) -> std::optional<Secret> {
    sources_.push_back(source);
    if (source.environment.empty()) sources_.back().environment = made_up_environment(pack, source.file);
    return Secret(std::to_string(sources_.size() - 1));
  };
  compiled = monitor::compile(pack, compile_options);
  compile_options.secret = nullptr;
  notes.insert(notes.end(), compiled.notes.begin(), compiled.notes.end());
}

std::vector<const Object*> Work::objects(Kind kind) const {
  std::vector<const Object*> found;
  for (const Object& object : compiled.objects)
    if (object.key.kind == kind) found.push_back(&object);
  return found;
}

std::vector<ContactPoint> Work::contact_points() const {
  std::map<std::string, ContactPoint> by_name;
  for (const Object* object : objects(Kind::contact_point)) {
    const std::string name = object->content.value("name", "");
    by_name[name].name = name;
    by_name[name].integrations.push_back(object);
  }
  std::vector<ContactPoint> result;
  for (auto& [name, point] : by_name) result.push_back(std::move(point));
  return result;
}

std::vector<SecretSetting> Work::secrets(const Object& contact_point) const {
  std::vector<SecretSetting> result;
  for (const auto& [key, marker] : contact_point.secrets) {
    const auto& source = sources_.at(std::stoul(std::string(marker.reveal())));
    result.push_back({key, source.environment, source.file});
  }
  return result;
}

std::vector<SecretSetting> Work::secrets() const {
  std::map<std::string, SecretSetting> by_environment;
  for (const Object* object : objects(Kind::contact_point))
    for (auto& secret : secrets(*object)) by_environment.try_emplace(secret.environment, secret);
  std::vector<SecretSetting> result;
  for (auto& [environment, secret] : by_environment) result.push_back(std::move(secret));
  return result;
}

std::string Work::datasources_text() const {
  std::string result;
  for (const auto& [variable, datasource] : compile_options.datasources)
    result += (result.empty() ? "" : ", ") + datasource.uid + " ($" + variable + ", " + datasource.type + ")";
  return result;
}

void Work::add(Format format, const std::string& path, std::string text) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  files.push_back({options.format_folders ? std::string(name(format)) + "/" + path : path, std::move(text)});
}

Json whole_rule(Json rule) {
  const auto otherwise = [&](const char* key, const char* value) {
    if (!rule.contains(key)) rule[key] = value;
  };
  otherwise("condition", "A");
  otherwise("noDataState", "OK");
  otherwise("execErrState", "Error");
  otherwise("for", "0s");
  for (Json& node : rule["data"])
    if (!node.contains("relativeTimeRange")) node["relativeTimeRange"] = {{"from", 0}, {"to", 0}};
  return rule;
}

Json prometheus_group(const Work& work, const pack::RuleGroup& group) {
  Json result = group.more;
  result["name"] = group.name;
  result["rules"] = Json::array();
  if (group.interval) result["interval"] = pack::duration_text(*group.interval);
  // Without any server, a link to its pages would be half a link: the page's path in the repository says
  // more.
  const auto& options = work.compile_options;
  const bool has_links = !options.grafana_url.empty() || !options.runbook_url.empty();
  for (const auto& rule : group.rules) {
    Json one{{rule.alert.empty() ? "record" : "alert", rule.name()}, {"expr", rule.expr}};
    if (rule.hold.count() > 0) one["for"] = pack::duration_text(rule.hold);
    if (rule.keep_firing.count() > 0) one["keep_firing_for"] = pack::duration_text(rule.keep_firing);
    Texts labels = group.labels;
    for (const auto& [name, value] : rule.labels) labels[name] = value;
    if (!labels.empty()) one["labels"] = labels;
    const Texts texts = has_links ? monitor::annotations(work.pack, rule, options) : rule.annotations;
    if (!texts.empty()) one["annotations"] = texts;
    result["rules"].push_back(std::move(one));
  }
  return result;
}

std::string kubernetes_name(std::string_view text) {
  constexpr std::size_t kLongest = 63;
  constexpr std::size_t kHash = 9;  // "-" and eight digits
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    const bool capital = c >= 'A' && c <= 'Z';
    result += plain ? c : capital ? static_cast<char>(c - 'A' + 'a') : '-';
  }
  const auto trim = [&] {
    while (!result.empty() && result.back() == '-') result.pop_back();
    result.erase(0, std::min(result.find_first_not_of('-'), result.size()));
  };
  trim();
  if (result == text && result.size() <= kLongest) return result;
  // What was replaced must not make two names one: a text with a "!" gets its hash from uid_of.
  const std::string hashed = monitor::uid_of("!" + std::string(text));
  result = result.substr(0, kLongest - kHash);
  trim();
  return result + (result.empty() ? "x" : "") + hashed.substr(hashed.size() - kHash);
}

std::string own_name(const pack::Pack& pack, std::string_view text) {
  return text.starts_with(pack.name + "-") ? std::string(text) : pack.name + "-" + std::string(text);
}

Json kubernetes_object(const Work& work, const std::string& api, const std::string& kind,
                       const std::string& name) {
  const auto& options = work.options.kubernetes;
  Json metadata{{"name", name}, {"labels", options.labels}};
  metadata["labels"]["app.kubernetes.io/part-of"] = kubernetes_name(work.pack.name);
  if (!options.name_space.empty()) metadata["namespace"] = options.name_space;
  return {{"apiVersion", api}, {"kind", kind}, {"metadata", std::move(metadata)}};
}

std::string dashboard_text(const Json& dashboard) {
  constexpr std::size_t kReadable = 200 * 1024;
  std::string text = dashboard.dump(2);
  return text.size() <= kReadable ? text + "\n" : dashboard.dump() + "\n";
}

std::string kubernetes_secret(const Work& work) {
  const auto& chosen = work.options.kubernetes.secret;
  return chosen.empty() ? kubernetes_name(work.pack.name + "-notifications") : chosen;
}

std::string secret_key(const std::string& file) {
  return file_name(file);
}

std::string lines_of(const std::vector<std::string>& items) {
  std::string result;
  for (const auto& item : items) result += "  " + item + "\n";
  return result;
}

}  // namespace tunnelctl::render
