#include "tunneld/admin/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <regex>
#include <set>
#include <sstream>

#include "common/metric_names.h"

namespace tunneld::admin {
namespace {

using namespace std::chrono_literals;
using access::Tier;
using testing::HasSubstr;
using testing::Not;
using tunnel::Code;

Metrics::Options options() {
  Metrics::Options made;
  made.build = {"1.2.3", "abc", "OpenSSL 3", "libssh2 1"};
  made.threads = 2;
  made.max_connections = 100;
  made.active_users = [] { return std::uint64_t{4}; };
  made.certificate_expiry = [] { return 1.9e9; };
  return made;
}

/// One of everything, so that every family has a sample.
void report_everything(Metrics& metrics) {
  metrics.socket_opened();
  metrics.socket_refused("max_connections");
  metrics.setup_finished("tls", 2ms);
  metrics.websocket_opened(Tier::premium, "caller");
  metrics.websocket_opened(Tier::free, "caller");
  metrics.websocket_closed(Tier::free, "caller", 1000, tunnel::Initiator::client, 3s);
  metrics.websocket_refused("caller", Code::service_denied);
  metrics.frame_rejected("oversize");
  metrics.request_rejected("header_count");
  metrics.heartbeat_rtt(1ms);
  metrics.heartbeat_timed_out();
  metrics.auth_attempt(true, "cached");
  metrics.auth_attempt(false, "signature");
  metrics.jwks_refreshed(true);
  metrics.request_started(Tier::free);
  metrics.request_started(Tier::free);
  metrics.request_finished(Tier::free, tunnel::Outcome::success, 7ms, 1ms);
  metrics.error_answered(Code::timed_out);
  metrics.bytes(tunnel::Side::client, 10, 20);
  metrics.ssh_session_opened(30ms);
  metrics.ssh_error("auth", "denied \"x\"\n");
  metrics.channel_opened();
  metrics.channel_refused("timeout");
  metrics.waiting_for_channel(1);
  metrics.loop_lagged(1, 1ms);
  metrics.shutdown_took("sigterm", 1s);
  metrics.config_reloaded(false);
}

TEST(Metrics, CountWhatRoomsReport) {
  Metrics metrics(options());
  report_everything(metrics);
  const auto text = metrics.expose(false, false);
  for (const auto* line : {
           "tunnel_active_connections{user_tier=\"premium\"} 1\n",
           "tunnel_active_connections{user_tier=\"free\"} 0\n",
           "tunnel_connections_total{role=\"caller\",result=\"ok\"} 2\n",
           "tunnel_connections_total{role=\"caller\",result=\"TUNNEL_017\"} 1\n",
           "tunnel_websocket_disconnections_total{code=\"1000\",initiator=\"client\"} 1\n",
           "tunnel_requests_total{status=\"success\",user_tier=\"free\",priority=\"normal\"} 1\n",
           "tunnel_requests_in_flight{user_tier=\"free\"} 1\n",
           "tunnel_request_duration_seconds_bucket{outcome=\"success\",le=\"0.01\"} 1\n",
           "tunnel_request_duration_seconds_bucket{outcome=\"success\",le=\"0.005\"} 0\n",
           "tunnel_errors_total{category=\"protocol\",code=\"TUNNEL_007\"} 1\n",
           "tunnel_bytes_received_total{side=\"client\"} 10\n",
           "tunnel_bytes_sent_total{side=\"client\"} 20\n",
           "tunnel_active_users 4\n",
           "tunnel_queue_size{priority=\"normal\"} 1\n",
           "tunnel_config_reloads_total{result=\"error\"} 1\n",
       })
    EXPECT_THAT(text, HasSubstr(line));
  EXPECT_THAT(text, testing::ContainsRegex("tunnel_auth_attempts_total\\{.*reason=\"signature\".*\\} 1"));
  const auto shot = metrics.snapshot();
  EXPECT_EQ(shot.succeeded, 1U);
  EXPECT_EQ(shot.in_flight, 1);
  EXPECT_EQ(shot.errors_by_code[7], 1U);
  EXPECT_NEAR(shot.latency.p95, 0.007, 0.001);
}

/// Names of families on a page, by their TYPE lines.
std::set<std::string> families(const std::string& text) {
  std::set<std::string> names;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line))
    if (line.starts_with("# TYPE ")) names.insert(line.substr(7, line.find(' ', 7) - 7));
  return names;
}

TEST(Metrics, EveryFamilyIsInTheCatalogueWithItsHelpAndType) {
  Metrics metrics(options());
  report_everything(metrics);
  const auto text = metrics.expose(false, true);
  for (const auto& name : families(text)) {
    SCOPED_TRACE(name);
    const auto* row = metric_names::find(name);
    ASSERT_NE(row, nullptr);
    EXPECT_THAT(text, HasSubstr("# HELP " + name + " " + std::string(row->help) + "\n"));
    const char* type = row->type == metric_names::Type::counter ? "counter"
                       : row->type == metric_names::Type::gauge ? "gauge"
                                                                : "histogram";
    EXPECT_THAT(text, HasSubstr("# TYPE " + name + " " + type + "\n"));
  }
}

TEST(Metrics, CompatibilityNamesAreOnlyOnTheirPage) {
  Metrics metrics(options());
  report_everything(metrics);
  const auto plain = families(metrics.expose(false, false));
  const auto both = families(metrics.expose(false, true));
  for (const auto& row : metric_names::kAll) {
    if (row.since != metric_names::Since::compat) continue;
    EXPECT_FALSE(plain.contains(row.name)) << row.name;
    EXPECT_TRUE(both.contains(row.name)) << row.name;
  }
  EXPECT_THAT(metrics.expose(false, true), HasSubstr("tunnel_request_latency_ms_bucket{le=\"10\"} 1\n"));
}

TEST(Metrics, OpenMetricsHasUnitsAndAnEnd) {
  Metrics metrics(options());
  report_everything(metrics);
  const auto text = metrics.expose(true, false);
  EXPECT_TRUE(text.ends_with("# EOF\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE tunnel_request_duration_seconds histogram\n"
                              "# UNIT tunnel_request_duration_seconds seconds\n"
                              "# HELP tunnel_request_duration_seconds "));
  // Counter families drop the suffix that their samples keep.
  EXPECT_THAT(text, HasSubstr("# TYPE tunnel_requests counter\n"));
  EXPECT_THAT(text, HasSubstr("\ntunnel_requests_total{status=\"success\""));
  EXPECT_THAT(text, HasSubstr("le=\"1.0\""));
  EXPECT_THAT(text, Not(HasSubstr("le=\"1\"")));
  EXPECT_THAT(text, HasSubstr("reason=\"denied \\\"x\\\"\\n\""));
}

TEST(Metrics, ManyReasonsDoNotGrowThePage) {
  Metrics metrics(options());
  for (int i = 0; i < 10'000; ++i) {
    metrics.request_rejected("made up " + std::to_string(i));
    metrics.ssh_error("phase" + std::to_string(i), "x");
  }
  EXPECT_LT(metrics.expose(false, true).size(), 100'000U);
}

TEST(Metrics, PromtoolFindsNothingToSay) {
  if (std::system("command -v promtool >/dev/null") != 0)
    GTEST_SKIP() << "promtool is not installed (package prometheus)";
  Metrics metrics(options());
  report_everything(metrics);
  std::string file = "/tmp/tunneld-metrics-XXXXXX";
  const int fd = ::mkstemp(file.data());
  ASSERT_GE(fd, 0);
  const auto text = metrics.expose(false, false);
  ASSERT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ::close(fd);
  const auto command = "promtool check metrics < " + file + " > " + file + ".out 2>&1";
  const int status = std::system(command.c_str());
  std::string said;
  if (auto* output = std::fopen((file + ".out").c_str(), "r")) {
    char buffer[4096];
    said.assign(buffer, std::fread(buffer, 1, sizeof(buffer), output));
    std::fclose(output);
  }
  ::unlink(file.c_str());
  ::unlink((file + ".out").c_str());
  EXPECT_EQ(status, 0) << said;
  EXPECT_EQ(said, "");
}

}  // namespace
}  // namespace tunneld::admin
