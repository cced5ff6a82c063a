#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "common/result.h"
#include "common/secret.h"

/// What every room that calls an API needs beside the client: who one is, and what a server said.
namespace http {

/// The value of an Authorization header. Source: RFC 7617.
std::string basic_authorization(std::string_view user, const Secret& password);

/// The first line of a token file, without white space around it. Fails with bad_input, naming file and
/// `setting`, when it cannot be read or is empty.
Result<Secret> read_token(const std::filesystem::path& path, std::string_view setting);

/// Text from the network as one harmless line for a terminal: no control characters, no broken UTF-8, no
/// white space at its ends, at most about `longest` bytes.
std::string one_line(std::string_view text, std::size_t longest = 500);

}  // namespace http
