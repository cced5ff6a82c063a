#include "tunneld/admin/exemplars.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace tunneld::admin {
namespace {

bool is_hexadecimal(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

}  // namespace

Exemplars::Exemplars(std::span<const double> bounds)
    : buckets_(std::make_unique<std::array<Bucket, Histogram::kMaxBounds + 1>>()) {
  if (bounds.size() > Histogram::kMaxBounds) throw std::logic_error("exemplars with too many bounds");
  for (const double bound : bounds)
    bounds_ns_.push_back(static_cast<std::uint64_t>(std::llround(bound * 1e9)));
}

void Exemplars::observe(std::chrono::steady_clock::duration took, std::string_view trace_id,
                        std::chrono::system_clock::time_point at) {
  Exemplar exemplar{.value = std::max(std::chrono::duration_cast<std::chrono::nanoseconds>(took),
                                      std::chrono::nanoseconds::zero()),
                    .at = at};
  // It is written into a page as it is, so nothing else may come in.
  if (trace_id.size() != exemplar.trace_id.size() ||
      !std::all_of(trace_id.begin(), trace_id.end(), is_hexadecimal))
    return;
  std::copy(trace_id.begin(), trace_id.end(), exemplar.trace_id.begin());
  // As Histogram::observe finds it: a value belongs to the bucket whose bound it reaches.
  const auto value = static_cast<std::uint64_t>(exemplar.value.count());
  const auto index = std::lower_bound(bounds_ns_.begin(), bounds_ns_.end(), value) - bounds_ns_.begin();
  Bucket& bucket = (*buckets_)[static_cast<std::size_t>(index)];
  const std::unique_lock lock(bucket.mutex, std::try_to_lock);
  if (!lock || (bucket.newest && bucket.newest->at > at)) return;
  bucket.newest = exemplar;
}

std::vector<std::optional<Exemplar>> Exemplars::read() const {
  std::vector<std::optional<Exemplar>> found;
  found.reserve(bounds_ns_.size() + 1);
  for (std::size_t index = 0; index <= bounds_ns_.size(); ++index) {
    const Bucket& bucket = (*buckets_)[index];
    const std::lock_guard lock(bucket.mutex);
    found.push_back(bucket.newest);
  }
  return found;
}

}  // namespace tunneld::admin
