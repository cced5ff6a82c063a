#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/result.h"

/// JSONPath over dashboards: the part of RFC 9535 that people use, and the older spellings that its users
/// know.
///
///   $  .name  ['name']  ["name"]  [0]  [-1]  [1:3]  [::2]  [*]  .*  ..name  ..[*]  [0,2]  ['a','b']
///   [?(@.id==4)]  [?@.id==4]  [?(@.type=='row' && !@.collapsed || @.id>3)]  [?(@.targets)]
///
/// The leading `$` (and `$.`) may be left out. Filters compare with == != < <= > >= against numbers, text,
/// true, false, null or another path from @ or $. There are no functions and no arithmetic.
namespace tunnelctl::grafana {

using Json = nlohmann::json;

/// Where a value stands, from the root: names of members, numbers of items.
using Step = std::variant<std::string, std::size_t>;
using Location = std::vector<Step>;

/// "$.panels[3].title"; names that are no plain words are quoted.
std::string written(const Location& location);
/// The value there; nullptr if there is none.
const Json* at(const Json& document, const Location& location);
Json* at(Json& document, const Location& location);

class JsonPath {
 public:
  struct Match {
    Location location;
    const Json* value = nullptr;
  };

  /// Fails with bad_input: "JSONPath, column 9: ...".
  static Result<JsonPath> parse(std::string_view text);
  /// "panels/0/title", RFC 6901 without the slash in front; "-" as a last part is not understood here.
  static JsonPath of_pointer(std::string_view text);

  JsonPath(JsonPath&&) noexcept;
  JsonPath& operator=(JsonPath&&) noexcept;
  ~JsonPath();

  /// In the order of the document; members by name.
  std::vector<Match> select(const Json& document) const;

  /// It can mean one place at most: names and numbers only.
  bool definite() const;
  /// Why a definite path selects nothing: "$.panels has 3 items, there is no [7]".
  std::string why_nothing(const Json& document) const;
  /// Without the last step, which is given back; nullopt for the root alone or where that step is neither a
  /// name nor a number.
  std::optional<std::variant<std::string, std::int64_t>> last() const;
  JsonPath parent() const;

  struct Segment;

 private:
  explicit JsonPath(std::vector<std::shared_ptr<const Segment>> segments);
  std::vector<std::shared_ptr<const Segment>> segments_;
};

}  // namespace tunnelctl::grafana
