#include "tunnelctl/client/client_state.h"

#include <nlohmann/json.hpp>

#include "common/http_access.h"
#include "tunnelctl/client/diagnosis.h"
#include "tunnelctl/client/retry.h"
#include "tunnelctl/client/tcp_counts.h"

namespace tunnelctl::client {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestEvent = 300;
/// As many as `diagnose` sends.
constexpr std::size_t kPings = 20;

json to_json(const LineQuality& quality) {
  json object{{"p50Ms", quality.p50_ms},
              {"p95Ms", quality.p95_ms},
              {"jitterMs", quality.jitter_ms},
              {"missedPongRatio", quality.missed_pong_ratio},
              {"band", quality.band}};
  if (quality.retransmit_ratio) object["retransmitRatio"] = *quality.retransmit_ratio;
  return object;
}

}  // namespace

const char* to_string(State state) {
  switch (state) {
    case State::disconnected: return "disconnected";
    case State::connecting: return "connecting";
    case State::connected: return "connected";
    case State::reconnecting: return "reconnecting";
    case State::error: return "error";
  }
  return "error";
}

void ClientState::note(const StateChange& change) {
  if (state != change.state) since = change.at;
  state = change.state;
  why = change.why;
  if (!change.session_id.empty()) session_id = change.session_id;
  if (state == State::connected) ++connections;
  std::string what = to_string(state);
  if (change.resumed) what += " again";
  if (!why.empty()) what += ": " + why;
  note(change.at, what);
}

void ClientState::note(const Attempt& attempt) {
  ++attempts;
  note(attempt.at, "attempt " + std::to_string(attempt.number) + " (" + attempt.cause + ", after " +
                       std::to_string(attempt.delay.count()) + " ms) to " + attempt.endpoint + ": " +
                       attempt.outcome);
}

void ClientState::note(std::chrono::system_clock::time_point at, std::string_view what) {
  if (events.size() >= kMostEvents) events.pop_front();
  events.push_back({at, http::one_line(what, kLongestEvent)});
}

json to_json(const ClientState& state) {
  auto events = json::array();
  for (const auto& event : state.events)
    events.push_back({{"time", timestamp(event.at)}, {"what", event.what}});
  const auto& figures = state.figures;
  json object{{"kind", state.kind},
              {"server", state.server},
              {"serves", state.serves},
              {"startedAt", timestamp(state.started)},
              {"state", to_string(state.state)},
              {"since", timestamp(state.since)},
              {"why", state.why},
              {"attempts", state.attempts},
              {"reconnects", state.connections > 0 ? state.connections - 1 : 0},
              {"streams", figures.streams},
              {"queued", figures.queued},
              {"bytes", {{"in", figures.bytes_in}, {"out", figures.bytes_out}}},
              {"events", std::move(events)}};
  if (!state.id.empty()) object["id"] = state.id;
  if (!state.session_id.empty()) object["sessionId"] = state.session_id;
  if (figures.queue_capacity) object["queueCapacity"] = *figures.queue_capacity;
  if (figures.quality) object["quality"] = to_json(*figures.quality);
  return object;
}

void PingHistory::look(const tunnel::WebSocketStream::Vitals& now) {
  const bool another = now.pings < last_.pings || now.pongs < last_.pongs;
  if (another) {
    // That connection broke with a ping under way.
    if (last_.waiting) put(std::nullopt);
    last_ = {};
    retransmit_ratio_.reset();
  }
  const auto missed = [](const auto& vitals) {
    return vitals.pings - vitals.pongs - (vitals.waiting ? 1 : 0);
  };
  for (auto i = missed(last_); i < missed(now); ++i) put(std::nullopt);
  for (auto i = last_.pongs; i < now.pongs; ++i) put(now.round_trip);
  if (const auto counts = tcp_counts(now.socket)) retransmit_ratio_ = counts->retransmit_ratio();
  last_ = now;
}

void PingHistory::put(std::optional<std::chrono::steady_clock::duration> round_trip) {
  if (newest_.size() >= kPings) newest_.pop_front();
  newest_.push_back(round_trip);
}

std::optional<LineQuality> PingHistory::quality() const {
  const auto latency = latency_of({newest_.begin(), newest_.end()});
  if (latency.missed == latency.pings) return std::nullopt;
  LineQuality quality{.p50_ms = latency.p50_ms, .p95_ms = latency.p95_ms, .jitter_ms = latency.jitter_ms};
  quality.missed_pong_ratio = latency.missed_ratio();
  quality.retransmit_ratio = retransmit_ratio_;
  quality.band = quality_word(latency.p50_ms, retransmit_ratio_.value_or(0));
  return quality;
}

}  // namespace tunnelctl::client
