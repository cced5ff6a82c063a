#pragma once

#include "common/sha256.h"

namespace tunneld::access {

using ::Sha256;
using ::sha256;

}  // namespace tunneld::access
