#include "tunnelctl/daemon/event_stream.h"

#include "common/json_text.h"

#include <algorithm>
#include <charconv>

namespace tunnelctl::daemon {
namespace {

constexpr std::chrono::milliseconds kLongestPause{30'000};
constexpr std::chrono::milliseconds kFirstPause{1'000};

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

bool EventStream::feed(std::string_view bytes, const Take& take) {
  rest_ += bytes;
  std::size_t at = 0;
  if (!begun_) {
    if (rest_.size() < 3) return true;
    begun_ = true;
    if (rest_.starts_with("\xEF\xBB\xBF")) at = 3;
  }
  for (;;) {
    // CR LF is one end, also when the two arrive apart.
    if (after_cr_ && at < rest_.size()) {
      after_cr_ = false;
      if (rest_[at] == '\n') ++at;
    }
    const std::size_t end = rest_.find_first_of("\r\n", at);
    if (end == std::string::npos) break;
    const bool more = line(std::string_view(rest_).substr(at, end - at), take);
    after_cr_ = rest_[end] == '\r';
    at = end + 1;
    if (!more) return false;
  }
  rest_.erase(0, at);
  oversized_ = rest_.size() + message_.data.size() > kMaxMessage;
  return !oversized_;
}

bool EventStream::line(std::string_view text, const Take& take) {
  if (text.empty()) {
    if (!has_data_) {
      message_.event.clear();
      return true;
    }
    if (message_.event.empty()) message_.event = "message";
    const bool more = take(message_);
    message_.event.clear();
    message_.data.clear();
    has_data_ = false;
    return more;
  }
  const std::size_t colon = text.find(':');
  const auto field = text.substr(0, colon);
  auto value = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "data") {
    if (has_data_) message_.data += '\n';
    message_.data += value;
    has_data_ = true;
  } else if (field == "event") {
    message_.event = value;
  } else if (field == "id") {
    if (value.find('\0') == std::string_view::npos) message_.id = value;
  } else if (field == "retry") {
    if (const auto ms = number(value); ms && *ms <= 3'600'000)
      retry_ = std::chrono::milliseconds(static_cast<std::int64_t>(*ms));
  }
  return true;  // a comment, or a field of a later time
}

std::chrono::milliseconds pause_before(unsigned attempt, std::chrono::milliseconds first) {
  auto pause = std::clamp(first, std::chrono::milliseconds(1), kLongestPause);
  for (unsigned i = 1; i < attempt && pause < kLongestPause; ++i) pause = std::min(pause * 2, kLongestPause);
  return pause;
}

Result<void> follow(const Admin& admin, const Follow& how) {
  std::uint64_t last = how.after;
  unsigned barren = 0;  // connections in a row that brought nothing
  auto first_pause = kFirstPause;
  for (;;) {
    EventStream stream;
    bool ended = false;
    bool any = false;
    bool first = true;
    const EventStream::Take message = [&](const Message& one) {
      const Json json = parse_json<Json>(one.data);
      if (!json.is_object()) return true;  // nothing of ours
      Event event = event_of(json);
      if (event.id == 0) event.id = number(one.id).value_or(0);
      // Asked for what comes behind `last`, the daemon begins before it when it knows no such event.
      if (event.id != 0 && event.id <= last && first) {
        how.anew();
        last = 0;
      }
      if (event.id <= last) return true;
      first = false;
      if (event.id != last + 1 && (any || last != 0)) how.gap(last + 1, event.id);
      last = event.id;
      any = true;
      ended = !how.take(event);
      return !ended;
    };
    const std::function<bool(std::string_view)> take = [&](std::string_view bytes) {
      return stream.feed(bytes, message);
    };
    const auto begun = how.begin ? how.begin() : Result<bool>(true);
    if (begun && !*begun) return {};
    auto done = begun ? admin.event_stream(last, take) : Result<void>(tl::unexpected(begun.error()));
    if (ended) return {};
    if (!done && done.error().kind == Error::Kind::cancelled) return {};
    if (!done && (done.error().kind == Error::Kind::denied || done.error().kind == Error::Kind::not_found))
      return done;
    if (stream.oversized())
      done = fail(Error::Kind::unavailable,
                  "an event is larger than " + std::to_string(EventStream::kMaxMessage) + " bytes");
    if (stream.retry()) first_pause = *stream.retry();
    barren = any ? 1 : barren + 1;
    const auto pause = pause_before(barren, first_pause);
    how.lost(done ? Error{Error::Kind::unavailable, "the daemon ended the stream"} : done.error(), pause);
    if (!how.wait(pause)) return {};
  }
}

}  // namespace tunnelctl::daemon
