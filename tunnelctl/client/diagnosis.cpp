#include "tunnelctl/client/diagnosis.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <openssl/evp.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/http_access.h"
#include "common/http_url.h"
#include "common/strict_json.h"
#include "tunnelctl/client/opening.h"
#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {
namespace {

using namespace asio::experimental::awaitable_operators;
using Json = nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kClockTolerance{60};
constexpr std::size_t kMaxClaims = 16 * 1024;

milliseconds in_ms(StepRunner::Clock::duration duration) {
  return std::chrono::duration_cast<milliseconds>(duration);
}

asio::awaitable<void> wait_until(StepRunner::Clock::time_point time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

/// "3 h 2 min", "95 s".
std::string spoken(seconds time) {
  const auto count = time.count();
  if (count < 120) return std::to_string(count) + " s";
  if (count < 7'200) return std::to_string(count / 60) + " min";
  if (count < 172'800)
    return std::to_string(count / 3'600) + " h " + std::to_string(count / 60 % 60) + " min";
  return std::to_string(count / 86'400) + " days";
}

std::string decoded(std::string_view base64url) {
  std::string text(base64url);
  std::replace(text.begin(), text.end(), '-', '+');
  std::replace(text.begin(), text.end(), '_', '/');
  const auto missing = (4 - text.size() % 4) % 4;
  text.append(missing, '=');
  std::string out(text.size(), '\0');
  const int size =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < static_cast<int>(missing)) return {};
  out.resize(static_cast<std::size_t>(size) - missing);
  return out;
}

std::string text_in(const Json& claims, const char* name) {
  const auto found = claims.find(name);
  return found != claims.end() && found->is_string()
             ? http::one_line(found->get_ref<const std::string&>(), 200)
             : std::string();
}

std::optional<std::chrono::system_clock::time_point> time_in(const Json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end() || !found->is_number()) return std::nullopt;
  const auto value = found->get<double>();
  constexpr double kYear9999 = 253'402'300'799.0;
  if (!(value >= 0 && value <= kYear9999)) return std::nullopt;
  return std::chrono::system_clock::time_point(seconds(static_cast<std::int64_t>(value)));
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const auto& text : texts) all.append(all.empty() ? "" : ", ").append(text);
  return all;
}

/// The next step for each cause.
struct Row {
  std::string_view cause;
  const char* suggestion;
};
constexpr std::array kSuggestions{
    Row{"refused", "check that tunneld runs there and listens on that address and port (its `listen`)"},
    Row{"unreachable", "check this machine's network and its routes (ip route get ADDRESS)"},
    Row{"timed_out",
        "ask who runs the firewall to let this port through, or check the address: nothing answers at all"},
    Row{"broken",
        "try again; if it always breaks here, look at tunneld's log, and ask who runs what is on the way"},
    Row{"proxy_refused",
        "check HTTPS_PROXY and NO_PROXY, or ask who runs the proxy to permit this host and port"},
    Row{"proxy_authentication",
        "put user and password of the proxy into HTTPS_PROXY (http://user:password@host:port)"},
    Row{"tls_failed",
        "check that the port is tunneld's TLS port, and whether something on the way breaks TLS open"},
    Row{"certificate_untrusted",
        "if that issuer is the server's own, name its certificate with --ca-file (tunneld's own one is "
        "<state_dir>/tls.crt there); if it is not, a sign-in page or a proxy on the way reads the traffic: "
        "sign in, or name that proxy's certificate"},
    Row{"certificate_name",
        "use a name that the certificate holds, or have the certificate made for this one"},
    Row{"certificate_time", "have the server's certificate renewed"},
    Row{"not_http", "check address and port: what answers there is no tunneld"},
    Row{"not_a_tunneld", "check address, port and path: what answers there is no tunneld"},
    Row{"captive_portal",
        "open a web page in a browser and sign in to the network; if you are signed in, check the address"},
    Row{"upgrade_stripped",
        "have the proxy on the way pass the fields Upgrade and Connection (nginx: proxy_http_version 1.1; "
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade), or go round it"},
    Row{"not_websocket", "have the proxy or cache on the way leave WebSockets alone, or go round it"},
    Row{"gateway", "look at the gateway's log and at its upstream: tunneld behind it does not answer"},
    Row{"token_expired", "get a new token and put it where --token-file or TUNNEL_TOKEN_FILE reads it"},
    Row{"token_not_yet_valid", "wait until the token is valid, and check the clocks of issuer and server"},
    Row{"token_malformed", "check that the file holds the whole token and nothing else"},
    Row{"wrong_audience", "get a token for this server: its audience must be the server's `auth.audience`"},
    Row{"token_refused",
        "get a token for this server from its issuer; the server's operator sees the reason with "
        "tunnelctl audit search --event auth.failed --since 1h"},
    Row{"forbidden", "ask who issues the token, or the server's operator: the token does not permit this"},
    Row{"bad_address", "correct the server's address"},
};

std::string suggestion_for(std::string_view cause) {
  const auto* row = std::find_if(kSuggestions.begin(), kSuggestions.end(),
                                 [&](const Row& each) { return each.cause == cause; });
  return row == kSuggestions.end() ? "see the server's log" : row->suggestion;
}

Finding finding_of(std::string cause, std::string explanation) {
  auto suggestion = suggestion_for(cause);
  return {std::move(cause), http::one_line(explanation, 900), std::move(suggestion)};
}

bool same_host(const std::string& audience, const std::string& host) {
  const auto scheme = audience.find("://");
  auto rest = std::string_view(audience).substr(scheme == std::string::npos ? 0 : scheme + 3);
  rest = rest.substr(0, rest.find_first_of(":/"));
  return rest == host;
}

/// A token that was refused may be told from its own claims to be for somebody else: an address that is not
/// this server's, or of tunneld's own issuer and not for a tunneld.
bool is_for_another(const TokenClaims& token, const std::string& host) {
  if (token.audience.empty()) return true;
  const auto fits = [&](const std::string& one) {
    if (token.issuer == "tunneld") return one == "tunneld" || same_host(one, host);
    return one.find("://") == std::string::npos || same_host(one, host);
  };
  return std::none_of(token.audience.begin(), token.audience.end(), fits);
}

Finding judge_token(const edge::ConnectFailure& failure, const Evidence& evidence) {
  const auto& token = evidence.token;
  const auto now = evidence.now + evidence.server_ahead.value_or(seconds(0));
  const auto ago = [](auto time) { return spoken(std::chrono::duration_cast<seconds>(time)); };
  if (failure.status == 403) return finding_of("forbidden", failure.message);
  if (failure.error_code == "TUNNEL_003" || (token.expires && *token.expires <= now)) {
    std::string what = "the token has expired";
    if (token.expires && *token.expires < now)
      what += " " + ago(now - *token.expires) + " ago, by the server's clock";
    return finding_of("token_expired", what + " (" + failure.error_code + ")");
  }
  if (!token.readable)
    return finding_of("token_malformed", "the token is no JWT: it has not the form of one");
  if (token.not_before && *token.not_before > now)
    return finding_of("token_not_yet_valid",
                      "the token is not valid for another " + ago(*token.not_before - now));
  const auto of =
      "it is of the issuer \"" + token.issuer + "\", for the audience \"" + joined(token.audience) + "\"";
  if (is_for_another(token, evidence.host))
    return finding_of("wrong_audience", "the server refuses the token (" + failure.error_code +
                                            "), which looks like another server's: " + of);
  return finding_of("token_refused",
                    "the server refuses the token (" + failure.error_code +
                        ") and tells callers no reason: wrong issuer, audience or key, or taken back; " + of);
}

/// An HTTP answer that no tunneld gave, or that somebody else had a hand in.
Finding judge_stranger(const edge::ConnectFailure& failure, const Evidence& evidence) {
  const auto by = evidence.via.empty() ? std::string() : "; the answer is from " + evidence.via;
  if (evidence.tunneld_there && (failure.cause == "upgrade_stripped" || failure.cause == "captive_portal"))
    return finding_of(
        "upgrade_stripped",
        failure.message + "; a tunneld is there, so something on the way drops the upgrade" + by);
  if (failure.cause == "captive_portal" || failure.cause == "not_websocket")
    return finding_of(failure.cause, failure.message + by);
  if (failure.status == 502 || failure.status == 503 || failure.status == 504)
    return finding_of("gateway",
                      failure.message + ": a gateway answers, and tunneld behind it does not" + by);
  if (evidence.tunneld_there)
    return finding_of(
        "not_websocket",
        failure.message + "; a tunneld is there, so something on the way refuses the WebSocket" + by);
  if (failure.cause == "not_http") return finding_of("not_http", failure.message + by);
  return finding_of("not_a_tunneld", failure.message + "; no page of a tunneld's is there either" + by);
}

Blame blame_upgrade(const edge::ConnectFailure& failure, const Evidence& evidence) {
  const auto& code = failure.error_code;
  if (failure.cause == "timed_out") return {"upgrade", finding_of("timed_out", failure.message)};
  if (code.empty()) return {"upgrade", judge_stranger(failure, evidence)};
  if (failure.status == 401 || failure.status == 403) return {"token", judge_token(failure, evidence)};
  // We do send Upgrade and the subprotocol: when they do not arrive, somebody on the way has removed them.
  const bool lost = code == "TUNNEL_010" && (failure.status == 426 || failure.status == 400);
  if (lost)
    return {"upgrade",
            finding_of("upgrade_stripped",
                       "a field of the WebSocket upgrade was lost or changed on its way to tunneld: " +
                           failure.message)};
  Finding finding{code, http::one_line(failure.message, 900),
                  "tunnelctl explain " + code + " says what to do"};
  if (code == "TUNNEL_010" && failure.status == 404)
    finding.suggestion =
        "check the path of the server's address; a tunneld that knows no links has to be updated";
  return {code == "TUNNEL_012" ? "session" : "upgrade", std::move(finding)};
}

Finding judge_tls(const edge::ConnectFailure& failure, const Evidence& evidence) {
  if (failure.cause != "tls_failed" || evidence.first_words.empty())
    return finding_of(failure.cause, failure.message);
  const auto said = "; without TLS the port says \"" + evidence.first_words + "\"";
  if (!evidence.first_words.starts_with("HTTP/")) return finding_of("not_a_tunneld", failure.message + said);
  auto finding = finding_of("no_tls", failure.message + said);
  finding.suggestion =
      "the port speaks HTTP without TLS: use the server's TLS port, or ws:// on the same machine";
  return finding;
}

/// What a wrong clock here makes of good certificates and tokens.
bool depends_on_clock(std::string_view cause) {
  constexpr std::array<std::string_view, 4> kTimed{"certificate_time", "token_expired", "token_not_yet_valid",
                                                   "token_refused"};
  return std::find(kTimed.begin(), kTimed.end(), cause) != kTimed.end();
}

}  // namespace

const char* to_string(StepResult result) {
  switch (result) {
    case StepResult::passed: return "passed";
    case StepResult::failed: return "failed";
    case StepResult::skipped: return "skipped";
  }
  return "skipped";
}

StepOutcome passed(std::string detail, Json facts) {
  return {.result = StepResult::passed, .detail = std::move(detail), .facts = std::move(facts)};
}

StepOutcome failed(Finding finding) {
  StepOutcome outcome{.result = StepResult::failed, .detail = finding.explanation};
  outcome.finding = std::move(finding);
  return outcome;
}

StepOutcome skipped(std::string why) {
  return {.result = StepResult::skipped, .detail = std::move(why)};
}

// Steps ---------------------------------------------------------------------------------------------

asio::awaitable<void> StepRunner::run(std::string name, Work work) {
  if (finding_) {
    note(std::move(name), skipped("because " + failed_ + " failed"), {});
    co_return;
  }
  const auto began = Clock::now();
  const auto deadline = std::min(began + limits_.step, ends_);
  const Finding late{"timed_out", name + " did not come to its end in time",
                     "try again on a better network; nothing was refused"};
  if (deadline <= began) {
    note(std::move(name), failed(late), {});
    co_return;
  }
  auto first = co_await (work(deadline) || wait_until(deadline + limits_.grace));
  auto outcome = first.index() == 0 ? std::get<0>(std::move(first)) : failed(late);
  note(std::move(name), std::move(outcome), Clock::now() - began);
}

void StepRunner::note(std::string name, StepOutcome outcome, Clock::duration took) {
  DiagnosisStep step;
  step.name = std::move(name);
  step.result = outcome.result;
  step.took = outcome.took.value_or(in_ms(took));
  step.detail = http::one_line(outcome.detail, 900);
  step.facts = std::move(outcome.facts);
  if (outcome.result == StepResult::failed) {
    failed_ = step.name;
    finding_ = std::move(outcome.finding);
    if (!finding_) finding_ = Finding{"failed", step.detail, "see the server's log"};
  }
  steps_.push_back(std::move(step));
}

// Causes --------------------------------------------------------------------------------------------

TokenClaims read_claims(std::string_view token) {
  TokenClaims claims;
  const auto first = token.find('.');
  const auto second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos)
    return claims;
  const auto json = parse_strict_json(decoded(token.substr(first + 1, second - first - 1)), kMaxClaims, 16);
  if (!json || !json->is_object()) return claims;
  claims.readable = true;
  claims.issuer = text_in(*json, "iss");
  claims.subject = text_in(*json, "sub");
  claims.expires = time_in(*json, "exp");
  claims.not_before = time_in(*json, "nbf");
  const auto audience = json->find("aud");
  if (audience == json->end()) return claims;
  if (audience->is_string()) claims.audience.push_back(text_in(*json, "aud"));
  if (audience->is_array())
    for (const auto& each : *audience)
      if (each.is_string())
        claims.audience.push_back(http::one_line(each.get_ref<const std::string&>(), 200));
  return claims;
}

std::optional<std::string> clock_note(const std::optional<seconds>& server_ahead) {
  if (!server_ahead || (*server_ahead <= kClockTolerance && *server_ahead >= -kClockTolerance))
    return std::nullopt;
  const bool behind = server_ahead->count() > 0;
  return "this machine's clock is " + spoken(behind ? *server_ahead : -*server_ahead) +
         (behind ? " behind" : " ahead of") + " the server's";
}

Blame blame(const edge::ConnectFailure& failure, const Evidence& evidence) {
  using edge::ConnectStep;
  Blame found;
  switch (failure.step) {
    case ConnectStep::tls: found = {"tls", judge_tls(failure, evidence)}; break;
    case ConnectStep::upgrade:
    case ConnectStep::done: found = blame_upgrade(failure, evidence); break;
    default: found = {"tcp", finding_of(failure.cause, failure.message)};
  }
  const auto clock = clock_note(evidence.server_ahead);
  if (!clock || !depends_on_clock(found.finding.cause)) return found;
  found.finding.explanation =
      *clock + ", so good certificates and tokens look wrong; " + found.finding.explanation;
  found.finding.suggestion = "set the clocks first (timedatectl set-ntp true), then try again";
  found.finding.cause = "clock_skew";
  return found;
}

Finding unresolved(const std::string& host, const Error& error) {
  const auto what = host + " cannot be looked up: " + error.message;
  switch (error.kind) {
    case Error::Kind::not_found:
      return {"dns_failed", what, "check how the name is written; if it is right, ask who runs its domain"};
    case Error::Kind::timed_out:
    case Error::Kind::unavailable:
      return {"dns_unavailable", what,
              "check this machine's network and its name servers (resolvectl status)"};
    default: return {"dns_failed", what, "check the name, and this machine's name servers"};
  }
}

Finding unconnected(const std::string& whom, const std::string& cause, const std::string& message) {
  if (cause == "timed_out")
    return finding_of(
        cause, whom + " does not answer at all (" + message + "): a firewall on the way drops what is sent");
  return finding_of(cause, whom + " cannot be reached: " + message);
}

Finding unopened(const std::string& service, const tunnel::Refusal& refusal) {
  const auto& facts = tunnel::facts(refusal.code);
  const std::string code(facts.name);
  const auto said =
      refusal.message.empty() ? std::string(facts.user_message) : http::one_line(refusal.message);
  std::string suggestion(facts.suggestion);
  if (refusal.code == tunnel::Code::service_denied)
    suggestion = "check the service's name; if it is right, its agent is not connected or you may not use it";
  if (refusal.code == tunnel::Code::unreachable)
    suggestion = "start what the message names: the SSH server, or the service behind it";
  return {code,
          "the way to tunneld is good, and tunneld does not open the service " + service + ": " + said +
              " (" + code + ")",
          std::move(suggestion)};
}

// Quality -------------------------------------------------------------------------------------------

Latency latency_of(const std::vector<std::optional<std::chrono::steady_clock::duration>>& round_trips) {
  Latency latency;
  latency.pings = round_trips.size();
  std::vector<double> times;
  for (const auto& each : round_trips)
    if (each) times.push_back(std::chrono::duration<double, std::milli>(*each).count());
  latency.missed = latency.pings - times.size();
  if (times.empty()) return latency;
  double changes = 0;
  for (std::size_t i = 1; i < times.size(); ++i) changes += std::abs(times[i] - times[i - 1]);
  if (times.size() > 1) latency.jitter_ms = changes / static_cast<double>(times.size() - 1);
  std::sort(times.begin(), times.end());
  const auto rank = [&](std::size_t percent) { return times[(times.size() * percent + 99) / 100 - 1]; };
  latency.p50_ms = rank(50);
  latency.p95_ms = rank(95);
  return latency;
}

const char* quality_word(double round_trip_ms, double loss_ratio) {
  if (round_trip_ms < 50 && loss_ratio < 0.01) return "excellent";
  if (round_trip_ms < 100 && loss_ratio < 0.03) return "good";
  if (round_trip_ms < 200 && loss_ratio < 0.05) return "fair";
  return "poor";
}

}  // namespace tunnelctl::client
