#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/grafana/server.h"

namespace tunnelctl::grafana {

/// One dashboard as it is stored.
struct Dashboard {
  std::string uid{};
  std::string title{};
  std::string url{};  // path below the server's address
  std::string folder_uid{}, folder_title{};
  std::int64_t version = 0;
  std::string updated{}, updated_by{};
  bool provisioned = false;  // by a file on the server: nobody else can save it
  /// "v2beta1" when it is stored in schema v2, whose classic form would lose something; else empty.
  std::string schema{};
  /// Classic: the dashboard. v2: the spec.
  Json content{};
  /// v2: the whole object with its metadata; else null.
  Json object = nullptr;
};

/// Reads it in the schema in which it is stored: the classic address answers v2 dashboards too, converted and
/// with parts missing, without a word.
Result<Dashboard> read_dashboard(Server& server, const std::string& uid);
/// The classic content as it was in that version.
Result<Json> read_dashboard_version(Server& server, const std::string& uid, std::int64_t version);

struct SaveOptions {
  std::string message{};
  /// Whatever is there now is replaced, whoever changed it.
  bool force = false;
};

struct Saved {
  std::string uid{}, url{};
  std::int64_t version = 0;
  /// Why nothing was saved although the request was right: somebody changed it meanwhile, or it exists
  /// already, or it belongs to a file on the server.
  std::optional<std::string> conflict{};
};

/// Saves what was read and changed: its version goes along, so that changes by others in between are found
/// (`conflict`). The folder stays the same. Fails with bug when the server saved it under another uid.
Result<Saved> save_dashboard(Server& server, const Dashboard& dashboard, const SaveOptions& options);
/// Makes a new one: classic content with a uid, or a v2 object or spec. `folder_uid` empty: no folder, or
/// with `force` the one it is in.
Result<Saved> create_dashboard(Server& server, const Json& content, const std::string& folder_uid,
                               const SaveOptions& options);
Result<void> delete_dashboard(Server& server, const std::string& uid);

struct Search {
  std::string text{};
  std::vector<std::string> tags{};
  std::vector<std::string> folder_uids{};
  bool starred = false;
  bool folders = false;     // folders instead of dashboards
  std::size_t limit = 100;  // 0: all
};

struct Found {
  std::string uid{}, title{}, url{}, folder_uid{}, folder_title{};
  std::vector<std::string> tags{};
};

/// A part of a list, and whether there is more of it.
template <class T>
struct Part {
  std::vector<T> items{};
  bool more = false;
};

Result<Part<Found>> search_dashboards(Server& server, const Search& search);

struct Version {
  std::int64_t version = 0;
  std::string created{}, created_by{}, message{};
  std::int64_t restored_from = 0;
};
/// Newest first.
Result<Part<Version>> dashboard_versions(Server& server, const std::string& uid, std::size_t limit);

/// What a failed read of one thing means: a 403 may stand for one that does not exist, since who is no admin
/// is asked for a permission on it first.
Error error_of_one(const Server& server, const Call& call, const Answer& answer);

/// What a uid may be: letters, digits, - and _, at most 40. "" when it is fine, else what is wrong.
std::string wrong_uid(std::string_view uid);

/// A dashboard of schema v2, or an object that holds one.
bool is_v2(const Json& content);

}  // namespace tunnelctl::grafana
