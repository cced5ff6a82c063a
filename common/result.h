#pragma once

#include <string>
#include <utility>

#include <tl/expected.hpp>

/// What went wrong, told twice: `kind` for the calling code, `message` for the person.
struct Error {
  enum class Kind { bad_input, not_found, denied, unavailable, timed_out, cancelled, bug };
  Kind kind = Kind::bug;
  /// Names the thing (file:key, URL and status, or peer) and, where there is one, the remedy.
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;

/// Shorthand for the failure branch: `return fail(Error::Kind::not_found, "...")`.
inline tl::unexpected<Error> fail(Error::Kind kind, std::string message) {
  return tl::unexpected<Error>(Error{kind, std::move(message)});
}
