#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

/// Reading what callers of the admin pages write: each fault becomes one sentence that begins with the
/// field's name, so that one answer tells all of them.
namespace tunneld::admin {

using Problems = std::vector<std::string>;

/// The parameters of a target's query, "a=1&b=2". Names and values are taken as they stand: nothing that the
/// pages take needs escapes. Unknown names, names given twice and broken parts are problems.
class Query {
 public:
  Query(std::string_view target, std::span<const std::string_view> known, Problems& problems);
  std::optional<std::string_view> find(std::string_view name) const;

  /// `otherwise` when it was not given, or is no number from `min` to `max` (a problem).
  std::uint64_t number(std::string_view name, std::uint64_t otherwise, std::uint64_t min, std::uint64_t max);
  /// One of `words`, else a problem; `otherwise` when it was not given.
  std::string_view word(std::string_view name, std::string_view otherwise,
                        std::span<const std::string_view> words);
  /// "30s", "5m", "1h"
  std::chrono::seconds duration(std::string_view name, std::chrono::seconds otherwise,
                                std::chrono::seconds min, std::chrono::seconds max);

 private:
  std::vector<std::pair<std::string_view, std::string_view>> parameters_;
  Problems& problems_;
};

/// The members of a JSON body. The body must be an object with `known` members only.
class Fields {
 public:
  Fields(const nlohmann::json& body, std::span<const std::string_view> known, Problems& problems);
  bool has(std::string_view name) const;
  /// Text of at most `max_bytes` printable characters, not empty; nullopt when it is missing or wrong, and
  /// wrong is a problem.
  std::optional<std::string> text(std::string_view name, std::size_t max_bytes);
  std::optional<std::int64_t> whole(std::string_view name, std::int64_t min, std::int64_t max,
                                    std::string_view of_what);
  std::vector<std::string> texts(std::string_view name, std::size_t max_items, std::size_t max_bytes);

 private:
  const nlohmann::json& body_;
  Problems& problems_;
};

/// Undoes %41 in a part of a path. Nullopt for broken escapes, and for anything but printable ASCII.
std::optional<std::string> unescaped(std::string_view text);

}  // namespace tunneld::admin
