#include "tunnel/refusal.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace {

using namespace tunnel;

TEST(Refusals, EveryCodeHasItsRow) {
  const struct {
    Code code;
    const char* name;
    const char* category;
    unsigned status;
  } rows[] = {
      {Code::unreachable, "TUNNEL_001", "network", 503},
      {Code::token_invalid, "TUNNEL_002", "authentication", 401},
      {Code::token_expired, "TUNNEL_003", "authentication", 401},
      {Code::unavailable, "TUNNEL_004", "server", 503},
      {Code::rate_limited, "TUNNEL_005", "server", 429},
      {Code::queue_full, "TUNNEL_006", "server", 503},
      {Code::timed_out, "TUNNEL_007", "protocol", 504},
      {Code::ssh_error, "TUNNEL_008", "protocol", 502},
      {Code::websocket_error, "TUNNEL_009", "protocol", 502},
      {Code::bad_request, "TUNNEL_010", "configuration", 400},
      {Code::forbidden, "TUNNEL_011", "authentication", 403},
      {Code::too_many_connections, "TUNNEL_012", "server", 429},
      {Code::outcome_unknown, "TUNNEL_013", "server", 502},
      {Code::circuit_open, "TUNNEL_014", "server", 503},
      {Code::host_key_mismatch, "TUNNEL_015", "protocol", 502},
      {Code::too_large, "TUNNEL_016", "protocol", 413},
      {Code::service_denied, "TUNNEL_017", "authentication", 403},
      {Code::no_agent, "TUNNEL_018", "server", 503},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    const auto& known = facts(row.code);
    EXPECT_EQ(known.code, row.code);
    EXPECT_EQ(known.name, row.name);
    EXPECT_EQ(known.category, row.category);
    EXPECT_EQ(known.http_status, row.status);
    EXPECT_FALSE(known.user_message.empty());
    EXPECT_FALSE(known.suggestion.empty());
    // 1005, 1006 and 1015 never stand on the wire (RFC 6455 7.4.1).
    EXPECT_TRUE((known.close_code >= 1002 && known.close_code <= 1013 && known.close_code != 1005 &&
                 known.close_code != 1006) ||
                (known.close_code >= 4400 && known.close_code < 4500));
  }
}

TEST(Refusals, TheBodyIsJsonWithEveryField) {
  const Refusal refusal{Code::rate_limited, "100 requests a minute", std::chrono::seconds(7)};
  const auto body = nlohmann::json::parse(error_body(refusal, "2026-01-02T03:04:05.678Z", "req", "corr"));
  const auto& error = body.at("error");
  EXPECT_EQ(error.at("code"), "TUNNEL_005");
  EXPECT_EQ(error.at("category"), "server");
  EXPECT_EQ(error.at("message"), "100 requests a minute");
  EXPECT_EQ(error.at("userMessage"), facts(Code::rate_limited).user_message);
  EXPECT_EQ(error.at("suggestion"), facts(Code::rate_limited).suggestion);
  EXPECT_EQ(error.at("timestamp"), "2026-01-02T03:04:05.678Z");
  EXPECT_EQ(error.at("requestId"), "req");
  EXPECT_EQ(error.at("correlationId"), "corr");
  EXPECT_EQ(error.at("retryAfter"), 7);
  EXPECT_EQ(error.at("docUrl"), "docs/errors/TUNNEL_005.md");
  const Refusal lasting{Code::too_large, "x"};
  EXPECT_FALSE(nlohmann::json::parse(error_body(lasting, "", "", "")).at("error").contains("retryAfter"));
}

TEST(Refusals, TheBodyIsJsonWhateverTheFarSideSaid) {
  const struct {
    std::string message;
    std::string read_back;
  } rows[] = {
      {"say \"no\" \\ /", "say \"no\" \\ /"},
      {std::string("a\0b\n\x1f\x7f", 6), std::string("a\0b\n\x1f\x7f", 6)},
      {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
      {"\xff|\xc3|\xc0\xaf|\xed\xa0\x80|",
       "\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|"},
      {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
  };
  for (const auto& row : rows) {
    const Refusal refusal{Code::ssh_error, row.message};
    const auto body = nlohmann::json::parse(error_body(refusal, "now", "r", "c"));
    EXPECT_EQ(body.at("error").at("message"), row.read_back);
  }
}

}  // namespace
