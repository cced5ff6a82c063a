#pragma once

#include <string>
#include <vector>

#include "common/result.h"
#include "tunnelctl/mcp/tool.h"

namespace tunnelctl::mcp {

/// The arguments as the schema wants them, or all that is wrong with them in one line, as bad_input.
///
/// Understood of JSON Schema: type (string, integer, number, boolean, object, array; several: the first that
/// fits), enum, minimum, maximum,
/// minLength, minItems, items, properties, required, additionalProperties (false, or a schema). Any other
/// word is left to the assistant.
///
/// Assistants are not exact, so what can only mean one thing is taken: "5" for a number and 5 for a text,
/// "true" for true, one value for a list of them, an object as its JSON text, names and words of an enum in
/// other capitals; null is as good as not given. Unknown names are refused with the valid ones.
Result<Json> checked_arguments(const Json& schema, const Json& arguments);

}  // namespace tunnelctl::mcp
