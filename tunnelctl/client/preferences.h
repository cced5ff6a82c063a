#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "tunnelctl/client/profile.h"

/// The settings of connect and agent as a person names them, and where each comes from:
/// an option, else the environment, else the configuration file (`client:`), else the profile.
namespace tunnelctl::client {

/// One thing that can be set.
struct Setting {
  std::string_view key;       // "request_timeout": in the file, and for `tunnelctl config`
  std::string_view option;    // "--request-timeout"
  std::string_view variable;  // "TUNNEL_REQUEST_TIMEOUT"
  std::string_view example;
  std::string_view help;
};

inline constexpr std::string_view kProfileKey = "profile";

/// All, `profile` first.
std::span<const Setting> settings();
/// By key; hyphens are as good as underscores. Null for a key that there is not.
const Setting* find_setting(std::string_view key);
/// The same for a key of the command line: bad_input says which there are, and which may have been meant.
Result<const Setting*> setting_named(std::string_view key);

/// What is wrong with the text as that setting's value ("must be a whole number from 10 to 1000"), or empty.
std::string check(const Setting& setting, std::string_view text);
/// The text in the one form in which values are kept and shown: "60s" for "60" or "1m". Needs a good one.
std::string canonical(const Setting& setting, std::string_view text);

/// Values by key; good ones.
using Values = std::map<std::string, std::string, std::less<>>;

/// Who set a value, from the weakest.
enum class Source { built_in, profile, file, environment, option };
const char* to_string(Source source);

struct Sources {
  Values options{};
  /// An environment variable's value, or null.
  std::function<const std::string*(std::string_view name)> variable{};
  Values file{};
  /// Where the file sets that key: "config.yaml:3".
  std::function<std::string(std::string_view key)> place{};
};

/// What counts, and why.
struct Resolved {
  struct Value {
    const Setting* setting = nullptr;
    std::string text{};
    std::string default_text{};  // without a profile or anything else
    Source source = Source::built_in;
    std::string
        from{};  // "default", "profile unstable", "config.yaml:3", "environment TUNNEL_QUEUE", "--queue"
  };

  Profile profile = Profile::stable;
  ClientSettings settings{};
  std::vector<Value> values{};  // in the order of settings()

  const Value& value(std::string_view key) const;
  /// Whether somebody set this very thing, rather than a profile.
  bool chosen(std::string_view key) const { return value(key).source > Source::profile; }
};

/// Fails with bad_input for a wrong value in the environment, naming the variable. Those of options and file
/// are known to be good.
Result<Resolved> resolve(const Sources& sources);

}  // namespace tunnelctl::client
