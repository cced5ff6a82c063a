#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <nlohmann/json.hpp>

#include "edge/websocket_client.h"
#include "tunnel/refusal.h"

/// What `tunnelctl diagnose` concludes from what it sees; seeing it is diagnosis_path.h's.
namespace tunnelctl::client {

namespace asio = boost::asio;

/// Why a step failed.
struct Finding {
  std::string cause;        // a word for programs: "refused", "clock_skew", "TUNNEL_017"
  std::string explanation;  // for a person, one line
  std::string suggestion;   // the next step, one line
};

enum class StepResult { passed, failed, skipped };
const char* to_string(StepResult result);

/// How one step ended.
struct StepOutcome {
  StepResult result = StepResult::skipped;
  std::string detail{};                             // what was seen, or why it was skipped
  nlohmann::json facts = nlohmann::json::object();  // the same for programs
  std::optional<Finding> finding{};                 // of a failed one
  /// Where one exchange with the server is told as several steps; else the runner measures.
  std::optional<std::chrono::milliseconds> took{};
};
StepOutcome passed(std::string detail, nlohmann::json facts = nlohmann::json::object());
StepOutcome failed(Finding finding);
StepOutcome skipped(std::string why);

struct DiagnosisStep {
  std::string name{};
  StepResult result = StepResult::skipped;
  std::chrono::milliseconds took{};
  std::string detail{};
  nlohmann::json facts = nlohmann::json::object();
};

/// Runs steps one after another, each within its time. Behind one that failed, the others are skipped.
class StepRunner {
 public:
  using Clock = std::chrono::steady_clock;
  struct Limits {
    /// What a step is told that it has, and how much later it is cut off: together under 10 s.
    std::chrono::milliseconds step{9'700};
    std::chrono::milliseconds grace{200};
    /// All of them.
    std::chrono::milliseconds all{58'000};
  };
  using Work = std::function<asio::awaitable<StepOutcome>(Clock::time_point deadline)>;

  /// The time for all runs from now on.
  explicit StepRunner(Limits limits) : limits_(limits), ends_(Clock::now() + limits.all) {}

  asio::awaitable<void> run(std::string name, Work work);

  const std::vector<DiagnosisStep>& steps() const { return steps_; }
  /// Of the step that failed.
  const std::optional<Finding>& finding() const { return finding_; }

 private:
  void note(std::string name, StepOutcome outcome, Clock::duration took);

  const Limits limits_;
  const Clock::time_point ends_;
  std::vector<DiagnosisStep> steps_;
  std::string failed_;
  std::optional<Finding> finding_;
};

/// What a token says of itself. Nobody vouches for that here: the server judges it, and tells nobody why.
struct TokenClaims {
  bool readable = false;  // it has the form of a JWT
  std::string issuer{}, subject{};
  std::vector<std::string> audience{};
  std::optional<std::chrono::system_clock::time_point> expires{}, not_before{};
};
TokenClaims read_claims(std::string_view token);

/// What was learned beside the failure itself.
struct Evidence {
  std::chrono::system_clock::time_point now{};
  std::optional<std::chrono::seconds> server_ahead{};  // the server's Date less our clock
  TokenClaims token{};
  std::string host{};          // of the server's address
  std::string via{};           // the answer's Server or Via field: "nginx/1.22.1"
  std::string first_words{};   // what the port says to who speaks no TLS
  bool tunneld_there = false;  // a page of tunneld's was had from there without an upgrade
};

/// Which step a failed attempt belongs to, and why it failed.
struct Blame {
  std::string step{};  // tcp, tls, upgrade, token, session
  Finding finding{};
};
Blame blame(const edge::ConnectFailure& failure, const Evidence& evidence);

/// "the clock ... is 1 h 2 min behind", when it is more than a minute off.
std::optional<std::string> clock_note(const std::optional<std::chrono::seconds>& server_ahead);

/// A name that could not be looked up; `error` is edge::look_up()'s.
Finding unresolved(const std::string& host, const Error& error);
/// No connection, with connect_any()'s or pass_proxy()'s cause.
Finding unconnected(const std::string& whom, const std::string& cause, const std::string& message);
/// tunneld was reached and did not open the service.
Finding unopened(const std::string& service, const tunnel::Refusal& refusal);

/// Of pings in the order they were sent; nullopt: never answered.
struct Latency {
  std::size_t pings = 0;
  std::size_t missed = 0;
  double p50_ms = 0, p95_ms = 0;  // nearest rank
  double jitter_ms = 0;           // the mean difference between one and the next (RFC 3550's, not smoothed)
  double missed_ratio() const {
    return pings == 0 ? 0 : static_cast<double>(missed) / static_cast<double>(pings);
  }
};
Latency latency_of(const std::vector<std::optional<std::chrono::steady_clock::duration>>& round_trips);

/// "excellent" below 50 ms and 1 % of loss, "good" below 100 ms and 3 %, "fair" below 200 ms and 5 %, else
/// "poor". TCP hides loss; the ratio of bytes that it sent again stands for it.
const char* quality_word(double round_trip_ms, double loss_ratio);

}  // namespace tunnelctl::client
