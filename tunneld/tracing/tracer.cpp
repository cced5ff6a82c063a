#include "tunneld/tracing/tracer.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <random>
#include <stop_token>
#include <thread>

#include "common/log.h"
#include "tunneld/tracing/collector.h"
#include "tunneld/tracing/otlp.h"

namespace tunneld::tracing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kFarewell{2};
/// Between two complaints about a collector that comes and goes.
constexpr std::chrono::minutes kQuiet{1};

/// Ids need to be different, not secret: they stand in every request's headers.
std::uint64_t random_number() {
  static constexpr auto kSeeded = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
    return std::mt19937_64(seed);
  };
  thread_local std::mt19937_64 generator = kSeeded();
  return generator();
}

/// Zero means "none" in the standard.
std::uint64_t random_id() {
  for (;;)
    if (const std::uint64_t number = random_number(); number != 0) return number;
}

void draw_span_id(SpanContext& context) {
  const std::uint64_t number = random_id();
  std::memcpy(context.span_id.data(), &number, sizeof number);
}

/// Decides by the trace id's last 56 bits, as OpenTelemetry does, so that whoever sees the id and keeps as
/// large a share keeps the same traces. Source: OpenTelemetry, "TraceState: Probability Sampling".
bool is_kept(const std::array<std::uint8_t, 16>& trace_id, unsigned percent) {
  std::uint64_t drawn = 0;
  for (std::size_t at = 9; at < trace_id.size(); ++at) drawn = drawn << 8U | trace_id[at];
  constexpr std::uint64_t kAll = std::uint64_t{1} << 56U;
  return drawn >= kAll / 100 * (100 - percent) && percent != 0;
}

}  // namespace

struct Tracer::Impl {
  /// Spans that leave in one request.
  struct Batch {
    std::vector<Span> spans;
    Clock::time_point since;  // of the first
  };

  Impl(const Options& chosen, Resource about, Reports to, Collector where)
      : options(chosen),
        resource(std::move(about)),
        reports(std::move(to)),
        collector(std::move(where)),
        percent(std::min(chosen.sample_percent, 100U)) {
    options.queue = std::max<std::size_t>(options.queue, 1);
    options.batch = std::clamp<std::size_t>(options.batch, 1, options.queue);
  }

  bool add(Span& span);
  void run();
  void send(Batch& batch);
  void judge(const Collector::Answer& answer);

  Options options;
  const Resource resource;
  const Reports reports;
  const Collector collector;
  std::atomic<unsigned> percent;
  std::stop_source cut;  // of what is being sent
  // As the log was told; the exporter's thread only.
  bool away = false;
  std::optional<Clock::time_point> told;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Batch> waiting;  // all but the last are full
  std::vector<Span> spare;    // an emptied batch, for its memory
  std::size_t count = 0;      // of spans that wait or are being sent
  bool ending = false;
  bool ended = false;

  std::thread thread;
};

/// False if there is no room.
bool Tracer::Impl::add(Span& span) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex);
    if (count >= options.queue) return false;
    if (waiting.empty() || waiting.back().spans.size() >= options.batch) {
      waiting.push_back({std::exchange(spare, {}), Clock::now()});
      wake = waiting.size() == 1;  // the exporter looks at the clock from now on
    }
    auto& spans = waiting.back().spans;
    spans.push_back(std::move(span));
    wake |= spans.size() == options.batch;
    ++count;
  }
  if (wake) changed.notify_all();
  return true;
}

void Tracer::Impl::run() {
  std::unique_lock lock(mutex);
  for (;;) {
    changed.wait(lock, [this] { return !waiting.empty() || ending; });
    if (waiting.empty()) break;
    const auto due = waiting.front().since + options.flush;
    changed.wait_until(lock, due, [this] { return waiting.front().spans.size() >= options.batch || ending; });
    Batch batch = std::move(waiting.front());
    waiting.pop_front();
    lock.unlock();
    const std::size_t sent = batch.spans.size();
    send(batch);
    batch.spans.clear();
    lock.lock();
    count -= sent;
    spare = std::move(batch.spans);
  }
  ended = true;
  lock.unlock();
  changed.notify_all();
}

void Tracer::Impl::send(Batch& batch) {
  const std::uint64_t spans = batch.spans.size();
  Collector::Answer answer{spans, "not sent: tunneld is ending"};
  if (!cut.stop_requested()) {
    answer =
        collector.send(encode_export(options.service_name, resource, batch.spans), spans, cut.get_token());
    judge(answer);
  }
  if (answer.rejected > 0) reports.spans("failed", answer.rejected);
  if (answer.rejected < spans) reports.spans("exported", spans - answer.rejected);
}

/// One line when it gets worse and one when it is well again, however many requests fail between.
void Tracer::Impl::judge(const Collector::Answer& answer) {
  if (!answer.why.empty() && !away && (!told || Clock::now() - *told >= kQuiet)) {
    away = true;
    told = Clock::now();
    logging::warn("tracing", "spans are lost: the collector does not take them",
                  {{"endpoint", collector.shown()}, {"error", answer.why}});
  } else if (answer.why.empty() && away) {
    away = false;
    logging::info("tracing", "the collector takes spans again", {{"endpoint", collector.shown()}});
  }
}

Result<std::unique_ptr<Tracer>> Tracer::open(const Options& options, Resource resource, Reports reports) {
  if (options.endpoint.empty()) return nullptr;
  auto collector = Collector::make(options, resource.service_version);
  if (!collector) return tl::unexpected(collector.error());
  std::unique_ptr<Tracer> tracer(new Tracer);
  tracer->impl_ =
      std::make_unique<Impl>(options, std::move(resource), std::move(reports), std::move(*collector));
  Impl& impl = *tracer->impl_;
  impl.thread = std::thread([&impl] { impl.run(); });
  ::pthread_setname_np(impl.thread.native_handle(), "tracing");
  return tracer;
}

Tracer::Tracer() = default;

Tracer::~Tracer() {
  if (!impl_) return;
  {
    std::unique_lock lock(impl_->mutex);
    impl_->ending = true;
    impl_->changed.notify_all();
    if (!impl_->changed.wait_for(lock, kFarewell, [this] { return impl_->ended; })) impl_->cut.request_stop();
  }
  impl_->thread.join();
}

SpanContext Tracer::begin(const std::optional<SpanContext>& parent) const {
  SpanContext context;
  if (parent) {
    context.trace_id = parent->trace_id;
    context.sampled = parent->sampled;
  } else {
    const std::uint64_t halves[] = {random_id(), random_number()};
    std::memcpy(context.trace_id.data(), halves, sizeof halves);
    context.sampled = is_kept(context.trace_id, impl_->percent.load(std::memory_order_relaxed));
  }
  draw_span_id(context);
  return context;
}

SpanContext Tracer::child_of(const SpanContext& parent) {
  SpanContext context = parent;
  draw_span_id(context);
  return context;
}

void Tracer::record(Span span) {
  if (!impl_->add(span)) impl_->reports.spans("dropped", 1);
}

void Tracer::set_sample_percent(unsigned percent) {
  impl_->percent.store(std::min(percent, 100U), std::memory_order_relaxed);
}

}  // namespace tunneld::tracing
