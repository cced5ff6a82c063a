#include "tunneld/live_streams.h"

#include <utility>

#include "tunnel/control_messages.h"

namespace tunneld {

using namespace std::chrono_literals;
using Clock = tunnel::DeadlineWatch::Clock;

namespace {

/// How long before its end a caller hears that its token ends.
constexpr auto kExpiryNotice = 60s;

}  // namespace

Clock::time_point expiry_of(const tunnel::Principal& principal) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(principal.expires_at - std::chrono::system_clock::now());
}

LiveStreams::Life::Life(LiveStreams& streams, tunnel::DeadlineWatch& watch, Token token, ControlSink* sink)
    : streams_(streams), watch_(watch), token_(std::move(token)), sink_(sink) {}

LiveStreams::Life::~Life() {
  if (place_) streams_.streams_.erase(*place_);
}

void LiveStreams::Life::begin() {
  place_ = streams_.streams_.insert(streams_.streams_.end(), this);
  watch_expiry();
  if (streams_.draining_) streams_.draining_(*this);
}

void LiveStreams::Life::refresh(Token token) {
  token_ = std::move(token);
  set_until(expiry_of(token_->principal));
  watch_expiry();
}

void LiveStreams::Life::watch_expiry() {
  if (sink_ != nullptr) watch_until(watch_, expiry_of(token_->principal) - kExpiryNotice);
}

void LiveStreams::Life::expired() {
  sink_->post_control(tunnel::auth_expiring_message(token_->principal.expires_at));
}

void LiveStreams::tell_flow(const std::string& principal_key, tunnel::FlowLevel level, double fill) {
  const auto message = tunnel::flow_message(level, fill, tunnel::recommended_delay(level));
  for (auto* stream : streams_)
    if (stream->sink_ != nullptr && stream->token_->principal.key() == principal_key)
      stream->sink_->post_control(message);
}

void LiveStreams::drain(std::chrono::system_clock::time_point deadline, std::string_view reason,
                        std::chrono::milliseconds quiet) {
  draining_ = [message = tunnel::maintenance_message(deadline, reason), quiet](Life& stream) {
    if (stream.sink_ != nullptr) stream.sink_->post_control(message);
    stream.stop_when_quiet(quiet, LiveStreams::How::draining, "draining");
  };
  for (auto* stream : streams_) draining_(*stream);
}

void LiveStreams::end_all(std::string_view why) {
  for (auto* stream : streams_) stream->stop(LiveStreams::How::draining, std::string(why));
}

void LiveStreams::check_revocations() {
  for (auto* stream : streams_)
    if (revocations_.revoked(stream->token_->principal))
      stream->stop(LiveStreams::How::revoked, "the token was revoked");
}

}  // namespace tunneld
