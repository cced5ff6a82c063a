#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/incident/backend.h"
#include "tunnelctl/incident/database.h"

namespace tunnelctl::incident {

struct LocalOptions {
  std::filesystem::path path{};
  std::string author{};  // of its notes, where they name none
  /// Where incidents are drawn as regions of time (annotations with the tag "incident"); none if empty. It
  /// fails no incident: `warn` is told.
  std::optional<grafana::Connection> grafana{};
  std::chrono::milliseconds patience{3'000};  // with Grafana, for one call
  /// How long it is left alone after it failed: calls are one after another, and must not all wait for it.
  std::chrono::milliseconds left_alone{60'000};
  std::function<void(std::string_view)> warn{};
  std::stop_token stop{};
};

/// Incidents in a SQLite file of this machine; ids are "inc-7". Any number of programs may use one file: of
/// those that open the same key at once one makes the incident and the others find it. Opening, with its
/// first lines of the timeline, is one transaction.
class LocalBackend final : public Backend {
 public:
  static Result<std::unique_ptr<LocalBackend>> make(LocalOptions options);

  std::string name() const override { return "local"; }
  std::string place() const override { return database_.path().string(); }
  Result<Opened> open(const Opening& opening) override;
  Result<Listed> list(const Filter& filter) override;
  Result<Incident> read(const std::string& id) override;
  Result<void> note(const std::string& id, const Note& note) override;
  Result<Incident> change(const std::string& id, const Changes& changes) override;
  Result<Incident> resolve(const std::string& id, const Note& note) override;

 private:
  LocalBackend(LocalOptions options, Database database)
      : options_(std::move(options)), database_(std::move(database)) {}

  Result<std::int64_t> number_of(const std::string& id);
  Result<Incident> found(std::int64_t number);
  Result<void> add_note(std::int64_t number, const Note& note);
  Result<void> set_status(const Incident& incident, std::int64_t number, Status status, Time at);
  /// Draws what is not drawn yet of the incident, and the ends of others that could not be drawn lately.
  /// `is_new`: nobody can have drawn it.
  void annotate(std::int64_t number, bool is_new);
  Result<std::vector<std::int64_t>> ends_to_draw(std::int64_t but);
  Result<void> try_annotate(std::int64_t number, bool is_new, grafana::Server& grafana);

  LocalOptions options_;
  Database database_;
  std::optional<std::chrono::steady_clock::time_point> grafana_failed_{};
};

}  // namespace tunnelctl::incident
