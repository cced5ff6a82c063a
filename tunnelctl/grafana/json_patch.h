#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/grafana/json_path.h"

/// Changes to a piece of JSON, one after the other, all or none.
namespace tunnelctl::grafana {

/// Paths are JSONPath ("$.panels[3].title", "panels[?(@.id==4)].title") or JSON Pointer ("/panels/3/title"),
/// and must mean exactly one place.
///
/// - replace: the place must be there.
/// - add: a member of an object is set; an item is inserted in front of that index; "$.tags/-" (or "/tags/-")
///   appends. What holds it must be there.
/// - remove: the place must be there. Removes that follow each other mean the document before the first of
///   them, so that their order does not matter. Indices of that list mean nothing safe afterwards: later
///   operations that use one behind the gap are refused.
struct Operation {
  std::string op{};
  std::string path{};
  std::optional<Json> value{};
};

struct PatchOptions {
  /// Members of the root that are not the caller's to change, e.g. "uid".
  std::vector<std::string> kept{};
  /// What "the whole document" may be replaced by; nullopt: it may not, and this says why.
  std::string root_is_kept = "the whole document cannot be replaced";
  bool root_may_be_replaced = false;
};

struct Patched {
  Json document{};
  std::vector<std::string> done{};  // for the person, one for each operation: "replaced $.title"
};

/// Fails with bad_input, naming the first operation that cannot be done ("operation 2 (remove $.nope): ...").
Result<Patched> patch(Json document, const std::vector<Operation>& operations,
                      const PatchOptions& options = {});

/// [{"op": "replace", "path": "$.title", "value": "New"}, ...]; fails with bad_input, naming what is wrong.
Result<std::vector<Operation>> operations_of(const Json& list);

/// A value as it is typed: JSON where it reads as JSON, else text. What begins like JSON text, a list or an
/// object must be complete.
Result<Json> typed_value(std::string_view text);

}  // namespace tunnelctl::grafana
