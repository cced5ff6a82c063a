#include "tunnelctl/client/retry.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "common/http_access.h"
#include "common/log_format.h"
#include "common/strict_json.h"
#include "tunnel/refusal.h"

namespace tunnelctl::client {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxReason = 123;  // RFC 6455 5.5: what a Close frame has room for
/// A server that says "later" and not when.
constexpr milliseconds kLater{5'000};

struct CloseRow {
  std::uint16_t code;
  const char* reason;
  Then then;
  unsigned factor;
  Error::Kind kind;
  const char* message;
};

constexpr std::array kCloses{
    CloseRow{1000, "normal", Then::stop, 1, Error::Kind::unavailable,
             "the server ended the connection; connect again when it is wanted"},
    CloseRow{1001, "going_away", Then::reconnect, 1, Error::Kind::unavailable, "the server went away"},
    CloseRow{1002, "protocol_error", Then::back_off, 1, Error::Kind::unavailable,
             "the server found a mistake in what we sent; that is a bug: please report it"},
    CloseRow{1003, "unexpected_data", Then::back_off, 1, Error::Kind::unavailable,
             "the server found a kind of message it does not take; that is a bug: please report it"},
    CloseRow{1006, "broken", Then::reconnect, 1, Error::Kind::unavailable, "the connection broke"},
    CloseRow{1007, "bad_text", Then::back_off, 1, Error::Kind::unavailable,
             "the server found text that is no UTF-8 in what we sent; that is a bug: please report it"},
    CloseRow{1008, "policy", Then::back_off, 2, Error::Kind::unavailable,
             "the server refused how we use it; its log says which rule it was"},
    CloseRow{1009, "too_large", Then::back_off, 1, Error::Kind::unavailable,
             "a message was larger than the server takes; that is a bug: please report it"},
    CloseRow{1011, "internal_error", Then::back_off, 1, Error::Kind::unavailable,
             "the server failed; its log says why"},
    CloseRow{1012, "restart", Then::reconnect, 1, Error::Kind::unavailable, "the server restarts"},
    CloseRow{1013, "overloaded", Then::back_off, 1, Error::Kind::unavailable,
             "the server is overloaded; try again later"},
    CloseRow{4401, "token_expired", Then::refresh_once, 1, Error::Kind::denied,
             "the token has expired; get a new one and put it where --token-file reads it"},
    CloseRow{4403, "forbidden", Then::stop, 1, Error::Kind::denied,
             "the token does not permit this; ask who issues it, or the server's operator"},
    CloseRow{4408, "timed_out", Then::reconnect, 1, Error::Kind::unavailable,
             "the server heard nothing from us for too long"},
    CloseRow{4409, "superseded", Then::stop, 1, Error::Kind::unavailable,
             "another copy of this program took our place; let one of them run"},
    CloseRow{4429, "limit", Then::back_off, 1, Error::Kind::unavailable,
             "there are too many connections or requests of this user; close some, or wait"},
};
constexpr CloseRow kOther{
    0, "closed", Then::back_off, 1, Error::Kind::unavailable, "the server closed the connection"};

const CloseRow& row_of(std::uint16_t code) {
  const auto found =
      std::find_if(kCloses.begin(), kCloses.end(), [&](const CloseRow& row) { return row.code == code; });
  return found == kCloses.end() ? kOther : *found;
}

struct CloseReason {
  std::string code{};
  std::optional<milliseconds> retry_after{};
};

/// Whatever is wrong with it counts as nothing said: it is the server's, and only advice.
CloseReason parse_reason(std::string_view text) {
  CloseReason reason;
  const auto json = parse_strict_json(text, kMaxReason, 2);
  if (!json || !json->is_object()) return reason;
  if (const auto code = json->find("code"); code != json->end() && code->is_string())
    reason.code = http::one_line(code->get_ref<const std::string&>(), 32);
  const auto after = json->find("retryAfterMs");
  if (after != json->end() && after->is_number_unsigned()) {
    constexpr std::uint64_t kDay = 86'400'000;
    reason.retry_after = milliseconds(static_cast<std::int64_t>(std::min(after->get<std::uint64_t>(), kDay)));
  }
  return reason;
}

struct CauseRow {
  std::string_view cause;
  bool stops_first;
  const char* next_step;
};

constexpr std::array kCauses{
    CauseRow{"dns_failed", false, "check the name, and that this machine can look names up"},
    CauseRow{"refused", false, "check that tunneld runs there and listens on that port"},
    CauseRow{"unreachable", false, "check this machine's network"},
    CauseRow{"timed_out", false, "check the network, and firewalls on the way"},
    CauseRow{"broken", false, "check the network, and that the address is a tunneld's"},
    CauseRow{"proxy_refused", false, "check HTTPS_PROXY and NO_PROXY, or ask who runs the proxy"},
    CauseRow{"proxy_authentication", true, "put user and password of the proxy into HTTPS_PROXY"},
    CauseRow{"tls_failed", true,
             "check that the port speaks TLS, and whether something on the way breaks it"},
    CauseRow{"certificate_untrusted", true, "name the certificate to trust with --ca-file"},
    CauseRow{"certificate_name", true, "use a name that the certificate holds"},
    CauseRow{"certificate_time", true, "check this machine's clock, and whether the certificate was renewed"},
    CauseRow{"not_http", true, "check the address: no tunneld answers there"},
    CauseRow{"captive_portal", true, "open a web page in a browser and sign in to the network"},
    CauseRow{"upgrade_stripped", true, "let the proxy on the way pass WebSocket upgrades, or go round it"},
    CauseRow{"refused_by_server", false, "see the server's log"},
};

const char* next_step(const CauseRow* row) {
  return row == nullptr ? "tunnelctl explain may say more" : row->next_step;
}

const CauseRow* row_of(std::string_view cause) {
  const auto found =
      std::find_if(kCauses.begin(), kCauses.end(), [&](const CauseRow& row) { return row.cause == cause; });
  return found == kCauses.end() ? nullptr : &*found;
}

Verdict after_answer(const edge::ConnectFailure& failure, Verdict verdict) {
  const bool ours = !failure.error_code.empty();
  if (ours && failure.cause != "upgrade_stripped") verdict.reason = http::one_line(failure.error_code, 32);
  const auto denied = [&](Then then, const char* step) {
    verdict.then = then;
    verdict.error = {Error::Kind::denied, http::one_line(failure.message) + "; " + step};
  };
  if (verdict.reason == "TUNNEL_003") {
    denied(Then::refresh_once, "get a new token and put it where --token-file reads it");
  } else if (failure.status == 401) {
    denied(Then::stop, "check that the token is for this server, whole and the newest");
  } else if (failure.status == 403) {
    denied(Then::stop, "the token does not permit this: ask who issues it, or the server's operator");
  } else if (failure.status == 400 || failure.status == 404 || failure.status == 405 ||
             failure.status == 426) {
    verdict.stops_first = true;
  } else if (failure.status == 429 && !verdict.advice.hint) {
    verdict.advice.hint = kLater;
  }
  return verdict;
}

}  // namespace

Verdict after_close(std::uint16_t code, std::string_view reason) {
  const auto& row = row_of(code);
  const auto said = parse_reason(reason);
  Verdict verdict;
  verdict.then = row.then;
  verdict.advice = {said.retry_after, row.factor};
  const bool later = code == 1013 || code == 4429;
  if (later && !verdict.advice.hint) verdict.advice.hint = kLater;
  verdict.reason = row.reason;
  std::string detail = " (close code " + std::to_string(code);
  if (!said.code.empty()) detail += ", " + said.code;
  verdict.error = {row.kind, row.message + (code == 1006 ? std::string() : detail + ")")};
  return verdict;
}

Verdict after_failure(const edge::ConnectFailure& failure) {
  const auto* row = row_of(failure.cause);
  Verdict verdict;
  verdict.advice.hint = failure.retry_after;
  verdict.stops_first = (row != nullptr && row->stops_first) || failure.step == edge::ConnectStep::address;
  verdict.reason = failure.cause.empty() ? "failed" : http::one_line(failure.cause, 64);
  verdict.error = {Error::Kind::unavailable, http::one_line(failure.message) + "; " + next_step(row)};
  if (failure.step == edge::ConnectStep::address) {
    verdict.then = Then::stop;
    verdict.error = {Error::Kind::bad_input, http::one_line(failure.message)};
    return verdict;
  }
  return failure.status == 0 ? verdict : after_answer(failure, std::move(verdict));
}

Error gave_up(unsigned attempts, const Verdict& last) {
  return {Error::Kind::timed_out, "TUNNEL_019: gave up after " + std::to_string(attempts) +
                                      (attempts == 1 ? " attempt" : " attempts in a row") + ": " +
                                      last.error.message +
                                      " (--retry forever goes on; more: tunnelctl explain TUNNEL_019)"};
}

std::string to_line(const Attempt& attempt) {
  const logging::Fields fields = {{"n", attempt.number},
                                  {"delay_ms", attempt.delay.count()},
                                  {"endpoint", attempt.endpoint},
                                  {"cause", attempt.cause},
                                  {"outcome", attempt.outcome}};
  std::string line;
  logging::render_text(line,
                       {.time = attempt.at,
                        .level = logging::Level::info,
                        .component = "tunnel",
                        .message = "attempt",
                        .instance_id = {},
                        .fields = fields},
                       false);
  return line;
}

std::string timestamp(std::chrono::system_clock::time_point time) {
  std::string text;
  logging::append_json_time(text, time);
  return text;
}

}  // namespace tunnelctl::client
