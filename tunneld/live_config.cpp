#include "tunneld/live_config.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "common/strict_json.h"

namespace tunneld {

using Json = nlohmann::ordered_json;
using admin::ConfigChanges;
using admin::Done;
using admin::Fault;
using tunnel::Code;

namespace {

constexpr int kVersion = 1;
constexpr std::size_t kMaxOverlay = 256 * 1024;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(std::move(line));
  return lines;
}

tl::unexpected<Fault> refuse(Code code, unsigned status, std::string message,
                             std::vector<std::string> details = {}) {
  return tl::unexpected(Fault{{code, std::move(message), {}, status}, std::move(details)});
}

/// Whether If-Match names the etag. Weak ones never do: RFC 9110 §13.1.1 asks for strong comparison.
bool matches(std::string_view if_match, const std::string& etag) {
  while (!if_match.empty()) {
    const auto end = std::min(if_match.find(','), if_match.size());
    auto one = if_match.substr(0, end);
    while (one.starts_with(' ') || one.starts_with('\t')) one.remove_prefix(1);
    while (one.ends_with(' ') || one.ends_with('\t')) one.remove_suffix(1);
    if (one == "*" || one == '"' + etag + '"') return true;
    if_match.remove_prefix(std::min(end + 1, if_match.size()));
  }
  return false;
}

std::optional<Fault> stale(const std::optional<std::string>& if_match, const std::string& etag) {
  if (!if_match || matches(*if_match, etag)) return std::nullopt;
  return Fault{{Code::bad_request, "If-Match: the configuration has changed since; read it again", {}, 412}};
}

std::string text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const auto& item : value) text += (text.empty() ? "" : ", ") + text_of(item);
  return text;
}

using Overlay = std::map<std::string, std::vector<std::string>>;

std::string written(const Overlay& overlay) {
  Json values = Json::object();
  for (const auto& [key, texts] : overlay) values[key] = texts;
  return Json{{"version", kVersion}, {"values", std::move(values)}}.dump(2) + "\n";
}

/// What `written` made; any other text is an error, in words.
tl::expected<Overlay, std::string> parse_overlay(std::string_view text) {
  const auto json = parse_strict_json(text, kMaxOverlay);
  if (!json) return tl::unexpected(json.error().message);
  const auto* wrong = "is not of the form {\"version\":1,\"values\":{\"key\":[\"value\"]}}";
  if (!json->is_object() || json->size() != 2 || !json->contains("version") || !json->contains("values") ||
      json->at("version") != kVersion || !json->at("values").is_object())
    return tl::unexpected(std::string(wrong));
  Overlay overlay;
  for (const auto& [key, texts] : json->at("values").items()) {
    const bool list = texts.is_array() && std::all_of(texts.begin(), texts.end(),
                                                      [](const auto& one) { return one.is_string(); });
    if (!list) return tl::unexpected(config::quote(key) + ": is no list of texts");
    overlay[key] = texts.get<std::vector<std::string>>();
  }
  return overlay;
}

std::string unknown_key(const std::string& key, const std::vector<std::string>& keys) {
  const auto near = config::nearest(key, keys);
  return config::quote(key) + ": unknown key" + (near.empty() ? "" : "; did you mean " + near + "?");
}

}  // namespace

LiveConfig::LiveConfig(Sources sources, std::filesystem::path overlay_file)
    : where_(std::move(sources)), overlay_file_(std::move(overlay_file)) {
  apply_ = [](Step&) { return Result<void>{}; };
}
LiveConfig::~LiveConfig() = default;

Result<std::unique_ptr<LiveConfig>> LiveConfig::open(Sources sources, std::filesystem::path overlay_file) {
  std::unique_ptr<LiveConfig> made(new LiveConfig(std::move(sources), std::move(overlay_file)));
  auto read = made->read_sources();
  if (!read) return tl::unexpected(read.error());
  made->sources_ = std::move(*read);

  const auto refused = [&made](const std::string& problems) {
    std::string message;
    for (const auto& line : lines_of(problems)) message += made->overlay_file_.string() + ": " + line + "\n";
    return fail(Error::Kind::bad_input,
                message +
                    "this file holds what was set by PUT /api/tunnel/config: mend it, or remove it to "
                    "start with the file, the environment and --set alone");
  };
  auto text = config::read_file(made->overlay_file_, kMaxOverlay);
  if (text) {
    auto overlay = parse_overlay(*text);
    if (!overlay) return refused(overlay.error());
    made->overlay_ = std::move(*overlay);
  } else if (text.error().kind != Error::Kind::not_found) {
    return tl::unexpected(text.error());
  }
  for (const auto& [key, texts] : made->overlay_) {
    const auto facts = Configuration().schema.facts(key);
    if (facts && !facts->hot) return refused(key + ": cannot be changed while running");
  }
  auto wanted = build(made->sources_, made->overlay_);
  if (!wanted) return refused(wanted.error().message);
  made->wanted_ = std::move(*wanted);
  made->in_force_ = std::make_unique<Configuration>();
  made->in_force_->values = made->wanted_->values;
  return made;
}

/// As load_config reads and judges them, so that its messages are the ones people know; then as they are.
Result<config::Sources> LiveConfig::read_sources() const {
  const auto good = load_config(where_.file, where_.overrides);
  if (!good) return tl::unexpected(good.error());
  config::Sources sources;
  if (where_.file) {
    auto text = config::read_file(*where_.file);
    if (!text) return tl::unexpected(text.error());
    sources.file_name = where_.file->string();
    sources.file_text = std::move(*text);
  }
  sources.environment = config::process_environment();
  sources.overrides = where_.overrides;
  return sources;
}

Result<std::unique_ptr<Configuration>> LiveConfig::build(const config::Sources& sources,
                                                         const Overlay& overlay) {
  auto all = sources;
  for (const auto& [key, texts] : overlay) all.changes.push_back({key, texts});
  auto made = std::make_unique<Configuration>();
  auto warnings = made->schema.load(all);
  if (!warnings) return tl::unexpected(warnings.error());
  made->warnings = std::move(*warnings);
  if (auto good = check(made->values); !good) return tl::unexpected(good.error());
  return made;
}

const Config& LiveConfig::values() const {
  return in_force_->values;
}

const std::vector<std::string>& LiveConfig::warnings() const {
  return wanted_->warnings;
}

Json LiveConfig::get() const {
  auto values = shown();
  auto tag = etag_of(values);
  return {{"etag", std::move(tag)}, {"values", std::move(values)}};
}

std::string LiveConfig::etag() const {
  return etag_of(shown());
}

Json LiveConfig::shown() const {
  const auto wanted = wanted_->schema.effective();
  const auto in_force = in_force_->schema.effective();
  Json values = Json::object();
  for (const auto& [key, entry] : wanted.items()) {
    const auto facts = wanted_->schema.facts(key);
    const bool waits = std::find(cold_.begin(), cold_.end(), key) != cold_.end();
    const auto& now = waits ? in_force.at(key) : entry;
    Json one;
    if (facts->list) {
      const auto from = wanted_->schema.origin(key);
      one = {{"value", now}, {"from", from.empty() ? "default" : from}};
    } else {
      one = {{"value", now.at("value")}, {"from", entry.at("from")}};
    }
    one["hot"] = facts->hot;
    if (waits) one["afterRestart"] = facts->list ? entry : entry.at("value");
    values[key] = std::move(one);
  }
  return values;
}

std::string LiveConfig::etag_of(const Json& values) {
  return to_hex(sha256(values.dump())).substr(0, 32);
}

Done<ConfigChanges> LiveConfig::put(const std::optional<std::string>& if_match, const nlohmann::json& body) {
  if (!if_match)
    return refuse(Code::bad_request, 428, "If-Match: missing; GET the configuration first and send its ETag");
  if (auto fault = stale(if_match, etag())) return tl::unexpected(std::move(*fault));
  if (!body.is_object())
    return refuse(Code::bad_request, 400, "body: an object is wanted", {"body: an object is wanted"});

  const auto& schema = wanted_->schema;
  std::vector<std::string> wrong, fixed;
  auto overlay = overlay_;
  for (const auto& [key, value] : body.items()) {
    const auto facts = schema.facts(key);
    if (!facts) {
      wrong.push_back(unknown_key(key, schema.keys()));
    } else if (facts->list) {
      fixed.push_back(key + ": is a list of sections; change the file and reload (SIGHUP)");
    } else if (!facts->hot || facts->secret) {
      fixed.push_back(key + ": takes effect only after a restart; change it in the file");
    } else if (value.is_null()) {
      overlay.erase(key);
    } else if (auto texts = schema.texts_of(key, value)) {
      overlay[key] = std::move(*texts);
    } else {
      wrong.push_back(key + ": " + texts.error());
    }
  }
  if (!wrong.empty()) {
    // All that is wrong at once: also what only shows when the good ones are put together.
    if (auto rest = build(sources_, overlay); !rest)
      std::ranges::copy(lines_of(rest.error().message), std::back_inserter(wrong));
    wrong.insert(wrong.end(), fixed.begin(), fixed.end());
    return refuse(Code::bad_request, 400, wrong.front(), wrong);
  }
  if (!fixed.empty()) return refuse(Code::bad_request, 409, fixed.front(), fixed);
  return change_overlay(std::move(overlay));
}

Done<ConfigChanges> LiveConfig::reset(const std::optional<std::string>& if_match,
                                      const std::vector<std::string>& keys) {
  if (auto fault = stale(if_match, etag())) return tl::unexpected(std::move(*fault));
  if (keys.empty()) return change_overlay({});
  std::vector<std::string> wrong;
  auto overlay = overlay_;
  for (const auto& key : keys) {
    if (!wanted_->schema.facts(key)) wrong.push_back(unknown_key(key, wanted_->schema.keys()));
    overlay.erase(key);
  }
  if (!wrong.empty()) return refuse(Code::bad_request, 400, wrong.front(), wrong);
  return change_overlay(std::move(overlay));
}

Done<ConfigChanges> LiveConfig::change_overlay(Overlay overlay) {
  auto wanted = build(sources_, overlay);
  if (!wanted) {
    auto problems = lines_of(wanted.error().message);
    const auto first = problems.empty() ? wanted.error().message : problems.front();
    return refuse(Code::bad_request, 400, first, std::move(problems));
  }
  const auto before = in_force_->schema.effective();
  if (overlay != overlay_) {
    if (auto kept = atomic_file::write(overlay_file_, written(overlay), 0600); !kept) {
      // It may be there in spite of the error: what is on disk must be what is in force.
      (void)atomic_file::write(overlay_file_, written(overlay_), 0600);
      return refuse(Code::unavailable, 503, "the change could not be kept: " + kept.error().message);
    }
  }
  auto done = adopt(std::move(*wanted));
  if (!done) {
    if (overlay != overlay_) (void)atomic_file::write(overlay_file_, written(overlay_), 0600);
    const auto& why = done.error();
    if (why.kind == Error::Kind::bad_input) {
      auto problems = lines_of(why.message);
      return refuse(Code::bad_request, 400, why.message, std::move(problems));
    }
    return refuse(Code::unavailable, 503, why.message);
  }
  overlay_ = std::move(overlay);

  ConfigChanges changes;
  const auto after = in_force_->schema.effective();
  for (const auto& key : done->hot)
    changes.changes.emplace_back(key, text_of(before[key]["value"]) + " -> " + text_of(after[key]["value"]));
  changes.etag = etag();
  return changes;
}

Result<LiveConfig::Reloaded> LiveConfig::reload() {
  auto sources = read_sources();
  if (!sources) return tl::unexpected(sources.error());
  auto wanted = build(*sources, overlay_);
  if (!wanted)
    return fail(wanted.error().kind,
                "together with " + overlay_file_.string() + ": " + wanted.error().message);
  auto done = adopt(std::move(*wanted));
  if (!done) return done;
  sources_ = std::move(*sources);
  return done;
}

/// First everything that can fail, then the change itself.
Result<LiveConfig::Reloaded> LiveConfig::adopt(std::unique_ptr<Configuration> wanted) {
  auto changed = config::diff(in_force_->schema, wanted->schema);
  Configuration next;
  next.values = in_force_->values;
  for (const auto& key : changed.hot) next.schema.take(wanted->schema, key);
  Step step{in_force_->values, next.values, wanted->values, changed.hot, changed.cold};
  if (auto applied = apply_(step); !applied) return tl::unexpected(applied.error());
  in_force_->values = next.values;
  wanted_ = std::move(wanted);
  cold_ = changed.cold;
  return Reloaded{std::move(changed.hot), std::move(changed.cold), wanted_->warnings};
}

}  // namespace tunneld
