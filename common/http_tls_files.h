#pragma once

#include "common/http_client.h"

namespace http {

/// Whether OpenSSL can use the files as they are named; bad_input with file, setting and reason if not.
/// Before the first request, because libcurl would only say it then, and ask for passphrases on the
/// terminal.
Result<void> check(const TlsFiles& files);

}  // namespace http
