#include "tunnelctl/incident/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>

namespace tunnelctl::incident {
namespace {

constexpr std::chrono::milliseconds kPatience{5'000};

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

struct Close {
  void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
};

/// The folder and those above it that are missing. What is made is the owner's alone.
Result<void> make_folder(const std::filesystem::path& folder) {
  std::filesystem::path path;
  for (const auto& part : folder) {
    path /= part;
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST && errno != EISDIR) {
      const int error = errno;
      // A parent on a read-only file system says EROFS even when it is there.
      if (struct stat facts{}; ::stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode)) continue;
      return fail(error == EACCES || error == EPERM || error == EROFS ? Error::Kind::denied
                                                                      : Error::Kind::unavailable,
                  path.string() + ": the folder cannot be made: " + std::strerror(error));
    }
  }
  return {};
}

/// Made empty with its mode before there is any content; one that is there is never opened here: closing it
/// would drop the locks that another connection of this process holds on it.
Result<void> make_file(const std::filesystem::path& path) {
  const int made = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (made >= 0) {
    ::fchmod(made, 0600);
    ::close(made);
    return {};
  }
  if (errno != EEXIST)
    return fail(
        errno == EACCES || errno == EPERM || errno == EROFS ? Error::Kind::denied : Error::Kind::unavailable,
        path.string() + ": cannot be made: " + std::strerror(errno));
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0)
    return fail(Error::Kind::unavailable, path.string() + ": " + std::strerror(errno));
  if (!S_ISREG(facts.st_mode)) return fail(Error::Kind::bad_input, path.string() + ": is no regular file");
  if ((facts.st_mode & 077U) != 0 && facts.st_uid == ::geteuid()) ::chmod(path.c_str(), 0600);
  return {};
}

}  // namespace

std::string Row::text(std::size_t column) const {
  if (column >= values.size()) return {};
  if (const auto* text = std::get_if<std::string>(&values[column])) return *text;
  if (const auto* number = std::get_if<std::int64_t>(&values[column])) return std::to_string(*number);
  return {};
}

std::int64_t Row::number(std::size_t column) const {
  if (column >= values.size()) return 0;
  const auto* number = std::get_if<std::int64_t>(&values[column]);
  return number == nullptr ? 0 : *number;
}

struct Database::Impl {
  std::filesystem::path path;
  std::unique_ptr<sqlite3, Close> connection;

  tl::unexpected<Error> failed(int code) const {
    using Kind = Error::Kind;
    const std::string name = path.string() + ": ";
    const int system = sqlite3_system_errno(connection.get());
    const std::string cause = system == 0 ? std::string() : std::string(" (") + std::strerror(system) + ")";
    switch (code & 0xFF) {
      case SQLITE_NOTADB:
        return fail(Kind::bad_input,
                    name + "is no database of incidents; name another file, or move it away");
      case SQLITE_CORRUPT:
        return fail(Kind::unavailable, name +
                                           "is damaged; move it away (a new one is made), or rescue what is "
                                           "in it with: sqlite3 " +
                                           path.string() + " .recover");
      case SQLITE_FULL: return fail(Kind::unavailable, name + "the disk is full; nothing was changed");
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        return fail(Kind::unavailable, name + "another program kept it locked for 5 s; try again");
      case SQLITE_READONLY:
      case SQLITE_PERM:
      case SQLITE_AUTH:
        return fail(Kind::denied,
                    name + "may not be written" + cause + "; look at its owner and its folder's");
      case SQLITE_CANTOPEN:
        return fail(system == EACCES || system == EPERM || system == EROFS ? Kind::denied : Kind::unavailable,
                    name + "cannot be opened" + cause);
      case SQLITE_IOERR:
        return fail(Kind::unavailable, name +
                                           "the disk failed, or a limit on the size of files (ulimit -f): " +
                                           sqlite3_errstr(code) + cause + "; nothing was changed");
      case SQLITE_TOOBIG: return fail(Kind::bad_input, name + "a text is too large to be kept");
      default: return fail(Kind::bug, name + sqlite3_errmsg(connection.get()));
    }
  }

  Result<Statement> prepared(std::string_view sql, const std::vector<Value>& values) const {
    sqlite3_stmt* raw = nullptr;
    const int code =
        sqlite3_prepare_v2(connection.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
    Statement statement(raw);
    if (code != SQLITE_OK) return failed(code);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const int place = static_cast<int>(i) + 1;
      int bound = SQLITE_OK;
      if (const auto* text = std::get_if<std::string>(&values[i]))
        bound = sqlite3_bind_text64(statement.get(), place, text->data(), text->size(), SQLITE_TRANSIENT,
                                    SQLITE_UTF8);
      else if (const auto* number = std::get_if<std::int64_t>(&values[i]))
        bound = sqlite3_bind_int64(statement.get(), place, *number);
      else if (const auto* real = std::get_if<double>(&values[i]))
        bound = sqlite3_bind_double(statement.get(), place, *real);
      else
        bound = sqlite3_bind_null(statement.get(), place);
      if (bound != SQLITE_OK) return failed(bound);
    }
    return statement;
  }

  Result<void> all(const std::string& sql) const {
    const int code = sqlite3_exec(connection.get(), sql.c_str(), nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) return failed(code);
    return {};
  }
};

namespace {

Value value_of(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: return std::int64_t{sqlite3_column_int64(statement, column)};
    case SQLITE_FLOAT: return sqlite3_column_double(statement, column);
    case SQLITE_NULL: return nullptr;
    default: {
      // Blobs too: nothing here writes any.
      const void* data = sqlite3_column_blob(statement, column);
      const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement, column));
      return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), size);
    }
  }
}

/// WAL is kept in the file, so most calls only ask. Going over to it needs the file alone and does not wait
/// for others, unlike all else.
Result<void> use_wal(Database& database) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    const auto mode = database.rows("PRAGMA journal_mode = WAL");
    if (mode) {
      if (!mode->empty() && mode->front().text(0) == "wal") return {};
      return fail(Error::Kind::unavailable,
                  database.path().string() +
                      ": its file system has no shared memory for several programs (WAL); name a file on a "
                      "local disk");
    }
    if (mode.error().message.find("locked") == std::string::npos || std::chrono::steady_clock::now() > until)
      return tl::unexpected(mode.error());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

/// Refuses what is another program's, before anything is written to it.
Result<void> is_ours(Database& database, std::int32_t application, std::size_t newest) {
  const auto facts = database.rows(
      "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM "
      "pragma_user_version), (SELECT count(*) FROM sqlite_schema)");
  if (!facts) return tl::unexpected(facts.error());
  const auto& row = facts->front();
  const bool empty = row.number(0) == 0 && row.number(1) == 0 && row.number(2) == 0;
  if (!empty && row.number(0) != application)
    return fail(Error::Kind::bad_input,
                database.path().string() + ": is the database of something else; name another file");
  if (row.number(1) > static_cast<std::int64_t>(newest))
    return fail(Error::Kind::bad_input, database.path().string() +
                                            ": was written by a newer version (format " +
                                            std::to_string(row.number(1)) + ", this one knows up to " +
                                            std::to_string(newest) + "); use that one, or name another file");
  return {};
}

}  // namespace

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;

Result<Database> Database::open(const std::filesystem::path& path, std::int32_t application,
                                const std::vector<std::string>& schemas) {
  std::error_code ignored;
  auto impl = std::make_unique<Impl>();
  impl->path = std::filesystem::absolute(path, ignored);
  if (impl->path.has_parent_path())
    if (auto made = make_folder(impl->path.parent_path()); !made) return tl::unexpected(made.error());
  if (auto made = make_file(impl->path); !made) return tl::unexpected(made.error());
  sqlite3* raw = nullptr;
  const int code =
      sqlite3_open_v2(impl->path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, nullptr);
  impl->connection.reset(raw);
  if (raw == nullptr) return fail(Error::Kind::unavailable, impl->path.string() + ": no memory is left");
  if (code != SQLITE_OK) return impl->failed(code);
  sqlite3_busy_timeout(raw, static_cast<int>(kPatience.count()));
  // What is in the file is data: its schema must not run functions of ours.
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  Database database(std::move(impl));
  if (auto ours = is_ours(database, application, schemas.size()); !ours) return tl::unexpected(ours.error());
  if (auto wal = use_wal(database); !wal) return tl::unexpected(wal.error());
  for (const char* setting :
       {"PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON", "PRAGMA journal_size_limit = 16777216"})
    if (auto done = database.rows(setting); !done) return tl::unexpected(done.error());
  const auto version = [&] {
    const auto rows = database.rows("PRAGMA user_version");
    return rows && !rows->empty() ? static_cast<std::size_t>(rows->front().number(0)) : 0U;
  };
  if (version() == schemas.size()) return database;
  auto lifted = database.transaction([&]() -> Result<void> {
    // Again, now that nobody else writes: two programs may have come here at once.
    if (auto ours = is_ours(database, application, schemas.size()); !ours) return ours;
    for (std::size_t i = version(); i < schemas.size(); ++i)
      if (auto done = database.impl_->all(schemas[i]); !done) return done;
    return database.impl_->all("PRAGMA application_id = " + std::to_string(application) +
                               "; PRAGMA user_version = " + std::to_string(schemas.size()));
  });
  if (!lifted) return tl::unexpected(lifted.error());
  return database;
}

Result<std::vector<Row>> Database::rows(std::string_view sql, const std::vector<Value>& values) {
  const auto statement = impl_->prepared(sql, values);
  if (!statement) return tl::unexpected(statement.error());
  std::vector<Row> rows;
  for (;;) {
    const int code = sqlite3_step(statement->get());
    if (code == SQLITE_DONE) return rows;
    if (code != SQLITE_ROW) return impl_->failed(sqlite3_extended_errcode(impl_->connection.get()));
    Row& row = rows.emplace_back();
    for (int i = 0; i < sqlite3_column_count(statement->get()); ++i)
      row.values.push_back(value_of(statement->get(), i));
  }
}

Result<void> Database::run(std::string_view sql, const std::vector<Value>& values) {
  auto done = rows(sql, values);
  if (!done) return tl::unexpected(done.error());
  return {};
}

std::int64_t Database::last_id() const {
  return sqlite3_last_insert_rowid(impl_->connection.get());
}

std::int64_t Database::changed() const {
  return sqlite3_changes64(impl_->connection.get());
}

Result<void> Database::transaction(const std::function<Result<void>()>& work) {
  if (auto begun = run("BEGIN IMMEDIATE"); !begun) return begun;
  auto done = work();
  if (done) done = run("COMMIT");
  // A full disk ends the transaction by itself.
  if (!done && sqlite3_get_autocommit(impl_->connection.get()) == 0) (void)run("ROLLBACK");
  return done;
}

const std::filesystem::path& Database::path() const {
  return impl_->path;
}

}  // namespace tunnelctl::incident
