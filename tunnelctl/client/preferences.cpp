#include "tunnelctl/client/preferences.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>

#include "common/config_values.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr std::array kSettings = {
    Setting{kProfileKey, "--profile", "TUNNEL_PROFILE", "unstable",
            "Settings that go together: stable, unstable or low-bandwidth. Sets all that nobody else sets."},
    Setting{"retry", "--retry", "TUNNEL_RETRY", "forever",
            "Attempts to connect in a row before it gives up: 1 to 20, or forever."},
    Setting{
        "base_delay", "--base-delay", "TUNNEL_BASE_DELAY", "2s",
        "The wait after the first failed attempt, which doubles with each: 100ms to 60s. A bare number is "
        "seconds."},
    Setting{
        "request_timeout", "--request-timeout", "TUNNEL_REQUEST_TIMEOUT", "30s",
        "How long a request of connect --http may wait for the connection, and then for its answer: 1s to "
        "600s. A bare number is seconds."},
    Setting{"queue", "--queue", "TUNNEL_QUEUE", "200",
            "Requests of connect --http that may wait for the connection: 10 to 1000."},
    Setting{
        "compression", "--compression", "TUNNEL_COMPRESSION", "on",
        "Offer permessage-deflate on connect's WebSocket: on or off. Used where tunneld has ws.compression."},
    Setting{"log_level", "--log-level", "TUNNEL_LOG_LEVEL", "debug",
            "How much is told on standard error: error, warn, info or debug."},
};

constexpr config::Range kBaseDelay{100ms, 60s};
constexpr config::Range kRequestTimeout{1s, 600s};
constexpr config::Range kQueue{10, 1000};
constexpr config::Range kRetry{1, 20};

constexpr std::array kLevels = {std::pair{std::string_view("error"), logging::Level::error},
                                std::pair{std::string_view("warn"), logging::Level::warn},
                                std::pair{std::string_view("info"), logging::Level::info},
                                std::pair{std::string_view("debug"), logging::Level::debug}};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::optional<milliseconds> duration(std::string_view text, config::Range range, milliseconds unit) {
  const bool bare =
      !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  const auto value = config::parse_duration(bare ? std::string(text) + "s" : std::string(text), range, unit);
  if (!value) return std::nullopt;
  return std::chrono::duration_cast<milliseconds>(*value);
}

/// One that is whole seconds reads best as seconds: "60s" beside "30s", and not "1m".
std::string seconds_text(milliseconds time) {
  if (time % 1s != 0ms) return std::to_string(time.count()) + "ms";
  return std::to_string(time / 1s) + "s";
}

const logging::Level* level_of(std::string_view text) {
  const auto word = lower(text);
  const auto* const found =
      std::find_if(kLevels.begin(), kLevels.end(), [&](const auto& one) { return one.first == word; });
  return found == kLevels.end() ? nullptr : &found->second;
}

std::string level_text(logging::Level level) {
  return std::string(std::find_if(kLevels.begin(), kLevels.end(), [&](const auto& one) {
                       return one.second == level;
                     })->first);
}

/// How one setting's text becomes a field of ClientSettings, and back. `profile` has none.
struct Field {
  std::string_view key;
  std::string_view wanted;  // "must be ..."
  bool (*assign)(ClientSettings& to, std::string_view text);
  std::string (*text)(const ClientSettings& from);
};

bool assign_retry(ClientSettings& to, std::string_view text) {
  if (lower(text) == "forever") {
    to.retry.reset();
    return true;
  }
  const auto count = config::parse_integer(text, kRetry);
  if (count) to.retry = static_cast<unsigned>(*count);
  return count.has_value();
}
std::string retry_text(const ClientSettings& from) {
  return from.retry ? std::to_string(*from.retry) : "forever";
}

bool assign_base_delay(ClientSettings& to, std::string_view text) {
  const auto time = duration(text, kBaseDelay, 1ms);
  if (time) to.base_delay = *time;
  return time.has_value();
}
std::string base_delay_text(const ClientSettings& from) {
  return seconds_text(from.base_delay);
}

bool assign_request_timeout(ClientSettings& to, std::string_view text) {
  const auto time = duration(text, kRequestTimeout, 1s);
  if (time) to.request_timeout = *time;
  return time.has_value();
}
std::string request_timeout_text(const ClientSettings& from) {
  return seconds_text(from.request_timeout);
}

bool assign_queue(ClientSettings& to, std::string_view text) {
  const auto count = config::parse_integer(text, kQueue);
  if (count) to.queue = static_cast<std::size_t>(*count);
  return count.has_value();
}
std::string queue_text(const ClientSettings& from) {
  return std::to_string(from.queue);
}

bool assign_compression(ClientSettings& to, std::string_view text) {
  const auto word = lower(text);
  // "true" too, because that is how a switch of the file's other sections is written.
  const bool on = word == "on" || word == "true";
  const bool off = word == "off" || word == "false";
  if (on || off) to.compression = on;
  return on || off;
}
std::string compression_text(const ClientSettings& from) {
  return from.compression ? "on" : "off";
}

bool assign_log_level(ClientSettings& to, std::string_view text) {
  const auto* level = level_of(text);
  if (level != nullptr) to.log_level = *level;
  return level != nullptr;
}
std::string log_level_text(const ClientSettings& from) {
  return level_text(from.log_level);
}

constexpr std::array kFields = {
    Field{"retry", "must be a number from 1 to 20, or forever", assign_retry, retry_text},
    Field{"base_delay", "must be a time from 100ms to 60s, such as 2s", assign_base_delay, base_delay_text},
    Field{"request_timeout", "must be whole seconds from 1s to 600s, such as 30s", assign_request_timeout,
          request_timeout_text},
    Field{"queue", "must be a whole number from 10 to 1000", assign_queue, queue_text},
    Field{"compression", "must be on or off", assign_compression, compression_text},
    Field{"log_level", "must be error, warn, info or debug", assign_log_level, log_level_text},
};
static_assert(kFields.size() + 1 == kSettings.size());

const Field* field_of(const Setting& setting) {
  const auto* const found =
      std::find_if(kFields.begin(), kFields.end(), [&](const Field& one) { return one.key == setting.key; });
  return found == kFields.end() ? nullptr : found;
}

/// What somebody other than a profile says about it; source built_in where nobody does.
Result<Resolved::Value> said(const Setting& setting, const Sources& sources) {
  Resolved::Value value{.setting = &setting};
  const auto take = [&](std::string_view text, Source source, std::string from) {
    value.text = canonical(setting, text);
    value.source = source;
    value.from = std::move(from);
    return value;
  };
  if (const auto found = sources.options.find(setting.key); found != sources.options.end())
    return take(found->second, Source::option, std::string(setting.option));
  const auto* variable = sources.variable ? sources.variable(setting.variable) : nullptr;
  if (variable != nullptr) {
    if (const auto wrong = check(setting, *variable); !wrong.empty())
      return fail(Error::Kind::bad_input, "environment " + std::string(setting.variable) + ": " +
                                              config::quote(*variable) + " " + wrong);
    return take(*variable, Source::environment, "environment " + std::string(setting.variable));
  }
  if (const auto found = sources.file.find(setting.key); found != sources.file.end())
    return take(found->second, Source::file, sources.place ? sources.place(setting.key) : "file");
  return value;
}

}  // namespace

std::span<const Setting> settings() {
  return kSettings;
}

const Setting* find_setting(std::string_view key) {
  std::string name(key);
  std::replace(name.begin(), name.end(), '-', '_');
  const auto* const found =
      std::find_if(kSettings.begin(), kSettings.end(), [&](const Setting& one) { return one.key == name; });
  return found == kSettings.end() ? nullptr : found;
}

Result<const Setting*> setting_named(std::string_view key) {
  if (const auto* found = find_setting(key)) return found;
  std::vector<std::string> keys;
  std::string all;
  for (const auto& one : kSettings) {
    keys.emplace_back(one.key);
    all.append(all.empty() ? "" : ", ").append(one.key);
  }
  const auto meant = config::nearest(key, keys);
  return fail(Error::Kind::bad_input,
              config::quote(key) + " is no setting; " +
                  (meant.empty() ? "there are: " + all : "did you mean " + meant + "?"));
}

std::string check(const Setting& setting, std::string_view text) {
  if (setting.key == kProfileKey)
    return find_profile(lower(text)) != nullptr ? "" : "must be stable, unstable or low-bandwidth";
  ClientSettings ignored;
  const auto* field = field_of(setting);
  return field->assign(ignored, text) ? std::string() : std::string(field->wanted);
}

std::string canonical(const Setting& setting, std::string_view text) {
  const auto* field = field_of(setting);
  if (field == nullptr) return lower(text);
  ClientSettings settings;
  if (!field->assign(settings, text)) throw std::logic_error("a value that nobody checked");
  return field->text(settings);
}

const char* to_string(Source source) {
  switch (source) {
    case Source::built_in: return "default";
    case Source::profile: return "profile";
    case Source::file: return "file";
    case Source::environment: return "environment";
    case Source::option: return "option";
  }
  return "default";
}

const Resolved::Value& Resolved::value(std::string_view key) const {
  return *std::find_if(values.begin(), values.end(),
                       [&](const Value& one) { return one.setting->key == key; });
}

Result<Resolved> resolve(const Sources& sources) {
  Resolved result;
  auto profile = said(kSettings.front(), sources);
  if (!profile) return tl::unexpected(profile.error());
  const auto& built_in = profiles().front();
  const bool chosen = profile->source != Source::built_in;
  const auto& base = chosen ? *find_profile(profile->text) : built_in;
  profile->default_text = built_in.name;
  if (!chosen) {
    profile->text = built_in.name;
    profile->from = "default";
  }
  result.profile = base.profile;
  result.settings = base.settings;
  result.values.push_back(std::move(*profile));
  for (const auto& setting : settings().subspan(1)) {
    auto value = said(setting, sources);
    if (!value) return tl::unexpected(value.error());
    const auto* field = field_of(setting);
    value->default_text = field->text(built_in.settings);
    if (value->source == Source::built_in) {
      value->text = field->text(base.settings);
      value->source = chosen ? Source::profile : Source::built_in;
      value->from = chosen ? "profile " + std::string(base.name) : "default";
    } else {
      field->assign(result.settings, value->text);
    }
    result.values.push_back(std::move(*value));
  }
  return result;
}

}  // namespace tunnelctl::client
