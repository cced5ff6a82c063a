#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tunneld/admin/cells.h"

namespace tunneld::admin {

/// One observation that stands for a bucket, with the trace that shows what happened.
struct Exemplar {
  std::array<char, 32> trace_id{};  // hexadecimal digits
  std::chrono::nanoseconds value{};
  std::chrono::system_clock::time_point at{};

  std::string_view trace() const { return {trace_id.data(), trace_id.size()}; }
  bool operator==(const Exemplar&) const = default;
};

/// The newest exemplar of each bucket of one Histogram, in fixed memory. Any thread; observe() never waits:
/// an exemplar that meets another one on its way into the same bucket is left out, because either will do.
class Exemplars {
 public:
  /// The histogram's own.
  explicit Exemplars(std::span<const double> bounds);

  /// `trace_id` as in a traceparent: 32 lower-case hexadecimal digits; with any other nothing is kept.
  void observe(std::chrono::steady_clock::duration took, std::string_view trace_id,
               std::chrono::system_clock::time_point at);

  /// One for each bucket, in their order; the last is that of +Inf.
  std::vector<std::optional<Exemplar>> read() const;

 private:
  struct Bucket {
    mutable std::mutex mutex;
    std::optional<Exemplar> newest;
  };
  std::vector<std::uint64_t> bounds_ns_;
  std::unique_ptr<std::array<Bucket, Histogram::kMaxBounds + 1>> buckets_;
};

}  // namespace tunneld::admin
