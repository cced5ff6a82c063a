#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/grafana/dashboards.h"

namespace tunnelctl::grafana {

struct Folder {
  std::string uid{}, title{}, url{}, parent_uid{};
  std::int64_t version = 0;
  std::vector<std::string> path{};  // titles from the root, its own last; from a single read only
};

/// Those directly in `parent_uid` (empty: the root), by title, without the pseudo folder "Shared with me".
/// Fails with not_found when the parent does not exist.
Result<Part<Folder>> list_folders(Server& server, const std::string& parent_uid, std::size_t limit);
Result<Folder> read_folder(Server& server, const std::string& uid);

/// What is in it and below it.
struct FolderCounts {
  std::int64_t dashboards = 0, folders = 0, alert_rules = 0, library_panels = 0;
  bool empty() const { return dashboards + folders + alert_rules + library_panels == 0; }
};
Result<FolderCounts> count_folder(Server& server, const std::string& uid);

struct FolderChange {
  Folder folder{};
  std::optional<std::string> conflict{};
};
/// Fails with not_found when the parent does not exist: the server itself would make an orphan that no list
/// shows. `conflict`: the uid is taken.
Result<FolderChange> create_folder(Server& server, const std::string& title, const std::string& uid,
                                   const std::string& parent_uid);
/// New title, new parent ("" moves it to the root), or both. `conflict`: it was changed meanwhile.
Result<FolderChange> update_folder(Server& server, const Folder& present,
                                   const std::optional<std::string>& title,
                                   const std::optional<std::string>& parent_uid, bool force);
/// With all that is in it. Fails with bad_input when there are alert rules inside and `with_rules` is not
/// set.
Result<void> delete_folder(Server& server, const std::string& uid, bool with_rules);

}  // namespace tunnelctl::grafana
