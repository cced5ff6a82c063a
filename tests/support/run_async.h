#pragma once

#include <chrono>
#include <exception>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

namespace support {

namespace asio = boost::asio;

/// Runs `story` on `context` until it ends and returns what it returned. What else runs there goes on
/// in a later call. Throws when nothing has come of it after ten seconds: a hang is a failure, not a wait.
template <class T>
T run_async(asio::io_context& context, asio::awaitable<T> story) {
  std::exception_ptr failure;
  bool done = false;
  using Stored = std::conditional_t<std::is_void_v<T>, bool, T>;
  std::optional<Stored> result;
  if constexpr (std::is_void_v<T>) {
    asio::co_spawn(context, std::move(story), [&](std::exception_ptr error) {
      failure = error;
      done = true;
    });
  } else {
    asio::co_spawn(context, std::move(story), [&](std::exception_ptr error, T value) {
      failure = error;
      if (!error) result.emplace(std::move(value));
      done = true;
    });
  }
  context.restart();
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!done && std::chrono::steady_clock::now() < give_up) context.run_one_until(give_up);
  if (!done) throw std::runtime_error("run_async: the story did not end within 10 s");
  if (failure) std::rethrow_exception(failure);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace support
