#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/config_file.h"
#include "common/result.h"
#include "tunneld/admin/admin_handler.h"
#include "tunneld/config.h"

namespace tunneld {

/// The configuration that is in force, and every way to change it while the daemon runs: the admin pages
/// (hot settings only; kept in `config_overlay.json` of the state directory, so that a restart keeps them)
/// and SIGHUP, which reads the file and the environment again.
///
/// An order of four: file, environment, --set, and what was set by the admin pages, shown as from "admin".
/// A change is built and checked as a whole configuration, then written down, then handed to `apply`; if
/// any of it fails, everything is as it was.
///
/// Threads: all on the control thread. `values()` stays the same object for as long as this lives.
class LiveConfig {
 public:
  struct Sources {
    std::optional<std::filesystem::path> file{};
    std::vector<std::string> overrides{};  // --set
  };
  /// What `apply` is to bring about.
  struct Step {
    const Config& now;
    /// In force once this is done: `hot` settings are the new ones, cold ones as they are. May be
    /// changed: what can be taken over though it is cold (services of an upstream) is put here, and its key
    /// taken out of `cold`.
    Config& next;
    const Config& wanted;  // as the sources have it, cold settings too
    const std::vector<std::string>& hot;
    std::vector<std::string>& cold;  // differ, and need a restart
  };
  /// May refuse, having changed nothing.
  using Apply = std::function<Result<void>(Step& step)>;

  /// Reads all sources. Fails with bad_input, each line naming where: also for an overlay that cannot be
  /// used, saying what to do about it. `overlay_file` need not exist.
  static Result<std::unique_ptr<LiveConfig>> open(Sources sources, std::filesystem::path overlay_file);
  ~LiveConfig();

  const Config& values() const;
  const std::vector<std::string>& warnings() const;
  void on_change(Apply apply) { apply_ = std::move(apply); }

  /// {"etag","values":{key: {"value","from","hot"}}}; secrets are "***". A cold setting that the sources
  /// have changed since the start shows the value in force, and "afterRestart" beside it.
  nlohmann::ordered_json get() const;
  std::string etag() const;

  /// {"key": value, ...}; null gives up what was set before. Faults: 428 without If-Match, 412 when it is
  /// stale, 400 for anything wrong with the body, 409 for settings that cannot be changed while running.
  admin::Done<admin::ConfigChanges> put(const std::optional<std::string>& if_match,
                                        const nlohmann::json& body);
  /// No keys: all. Unknown ones are a fault (400). If-Match is looked at when there is one.
  admin::Done<admin::ConfigChanges> reset(const std::optional<std::string>& if_match,
                                          const std::vector<std::string>& keys);

  struct Reloaded {
    std::vector<std::string> hot;   // applied
    std::vector<std::string> cold;  // need a restart
    std::vector<std::string> warnings;
  };
  /// File and environment anew; what was set by the admin pages stays.
  Result<Reloaded> reload();

 private:
  using Overlay = std::map<std::string, std::vector<std::string>>;  // key -> its texts
  LiveConfig(Sources sources, std::filesystem::path overlay_file);
  static Result<std::unique_ptr<Configuration>> build(const config::Sources& sources, const Overlay& overlay);
  static std::string etag_of(const nlohmann::ordered_json& values);
  nlohmann::ordered_json shown() const;
  Result<config::Sources> read_sources() const;
  Result<Reloaded> adopt(std::unique_ptr<Configuration> wanted);
  admin::Done<admin::ConfigChanges> change_overlay(Overlay overlay);

  const Sources where_;
  const std::filesystem::path overlay_file_;
  config::Sources sources_;  // as read at the start or by the last reload
  Overlay overlay_;
  std::unique_ptr<Configuration> in_force_;
  std::unique_ptr<Configuration> wanted_;
  std::vector<std::string> cold_;  // differ between the two
  Apply apply_;
};

}  // namespace tunneld
