#pragma once

#include <memory>
#include <string>
#include <utility>

#include "common/secret.h"
#include "tunnelctl/incident/backend.h"
#include "tunnelctl/incident/remote.h"

namespace tunnelctl::incident {

struct GithubOptions {
  std::string repository{};                    // "owner/name"
  std::string url = "https://api.github.com";  // of an Enterprise server: https://host/api/v3
  Secret token{};                              // may write issues and set labels
  RemoteOptions remote{};                      // TLS, time, stop
};

/// Issues with the label "incident"; ids are their numbers. Facts that an issue has no place for stand in a
/// comment of HTML at its beginning. Of several that were opened with one key at once the lowest number
/// stays; opening that key closes the others. Source: https://docs.github.com/en/rest/issues (version
/// 2022-11-28).
class GithubBackend final : public Backend {
 public:
  static Result<std::unique_ptr<GithubBackend>> make(GithubOptions options);

  std::string name() const override { return "github"; }
  std::string place() const override { return "issues of " + repository_; }
  Result<Opened> open(const Opening& opening) override;
  Result<Listed> list(const Filter& filter) override;
  Result<Incident> read(const std::string& id) override;
  Result<void> note(const std::string& id, const Note& note) override;
  Result<Incident> change(const std::string& id, const Changes& changes) override;
  Result<Incident> resolve(const std::string& id, const Note& note) override;

 private:
  GithubBackend(std::string repository, Remote remote)
      : repository_(std::move(repository)), remote_(std::move(remote)) {}
  /// "/repos/owner/name/issues" and what follows.
  std::string path(const std::string& rest = "") const { return "/repos/" + repository_ + "/issues" + rest; }
  /// Fails with not_found only where the repository is there: else with denied.
  Result<Json> issue(const std::string& id);
  /// Those of that key, oldest first.
  Result<std::vector<Incident>> open_ones(const std::string& dedup_key);
  Result<Json> patch(const std::string& id, Json body);
  Result<std::vector<Note>> comments(const std::string& id);
  Incident read_issue(const Json& issue) const;

  std::string repository_;
  Remote remote_;
};

}  // namespace tunnelctl::incident
