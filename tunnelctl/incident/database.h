#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/result.h"

namespace tunnelctl::incident {

using Value = std::variant<std::nullptr_t, std::int64_t, double, std::string>;

/// One row of an answer.
struct Row {
  std::vector<Value> values{};
  std::string text(std::size_t column) const;     // "" for NULL
  std::int64_t number(std::size_t column) const;  // 0 for NULL
};

/// A SQLite file (mode 0600, its folder 0700), in WAL mode, synced at every commit. Several processes may use
/// one file; a busy file is waited for (5 s). Not for several threads at once. Errors: bad_input (the file is
/// none of ours, or of a newer version), denied, unavailable (full disk, busy, damaged: the message says
/// which and what to do).
class Database {
 public:
  /// Opens or makes it. `schemas`: statements that lift the file from version i to i + 1 (PRAGMA
  /// user_version); `application`: PRAGMA application_id, so that another program's file is refused.
  static Result<Database> open(const std::filesystem::path& path, std::int32_t application,
                               const std::vector<std::string>& schemas);
  Database(Database&&) noexcept;
  Database& operator=(Database&&) noexcept;
  ~Database();

  Result<std::vector<Row>> rows(std::string_view sql, const std::vector<Value>& values = {});
  Result<void> run(std::string_view sql, const std::vector<Value>& values = {});
  std::int64_t last_id() const;
  std::int64_t changed() const;  // rows of the last run()
  /// BEGIN IMMEDIATE; COMMIT when `work` succeeds, else ROLLBACK. Not nested.
  Result<void> transaction(const std::function<Result<void>()>& work);
  const std::filesystem::path& path() const;

 private:
  struct Impl;
  explicit Database(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunnelctl::incident
