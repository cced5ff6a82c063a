#pragma once

#include <memory>

#include "tunnelctl/incident/backend.h"
#include "tunnelctl/patterns/redaction.h"

namespace tunnelctl::incident {

/// The same backend, to which nothing goes that must not leave: secrets are taken out of titles, texts, label
/// values, captions and addresses, whoever wrote them. A dedup key with a secret in it becomes another that
/// is as unique.
std::unique_ptr<Backend> redacting(std::unique_ptr<Backend> backend,
                                   patterns::RedactionOptions options = patterns::RedactionOptions());

}  // namespace tunnelctl::incident
