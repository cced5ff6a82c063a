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
using testing::HasSubstr;
using testing::Not;
using tunnel::Code;
using tunnel::Priority;
using tunnel::Tier;

access::CircuitBreakers::Info breaker(const char* service, access::BreakerState state) {
  access::CircuitBreakers::Info info;
  info.service = service;
  info.state = state;
  return info;
}

Metrics::Options options() {
  Metrics::Options made;
  made.build = {"1.2.3", "abc", "OpenSSL 3", "libssh2 1"};
  made.threads = 2;
  made.max_connections = 100;
  made.active_users = [] { return std::uint64_t{4}; };
  made.certificate_expiry = [] { return 1.9e9; };
  made.queue_fullest = [] { return 0.75; };
  made.services = [] { return std::vector<std::string>{"web", "api", "quiet"}; };
  made.breakers = [] {
    return std::vector{
        breaker("web", access::BreakerState::closed), breaker("web", access::BreakerState::open),
        breaker("web", access::BreakerState::half_open), breaker("api", access::BreakerState::half_open),
        breaker("gone", access::BreakerState::open)};
  };
  made.penalties = [] { return access::PenaltyBox::Counts{.throttled = 5, .blocked = 2, .entries = 9}; };
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
  metrics.request_finished({.tier = Tier::free, .took = 7ms, .overhead = 1ms});
  metrics.error_answered(Code::timed_out);
  metrics.bytes(tunnel::Side::client, 10, 20);
  metrics.ssh_session_opened(30ms);
  metrics.ssh_error("auth", "denied \"x\"\n");
  metrics.channel_opened();
  metrics.channel_refused("timeout");
  metrics.queue_entered(Priority::normal);
  metrics.queue_entered(Priority::low);
  metrics.queue_left(Priority::low, tunnel::QueueExit::evicted, 20ms);
  metrics.queue_refused(Priority::high);
  metrics.flow_level_changed(tunnel::FlowLevel::throttle);
  metrics.breaker_changed("open");
  metrics.rate_limited("ip", Tier::free);
  metrics.compressed(tunnel::Side::agent, 100, 40);
  metrics.audit_written("auth.failed");
  metrics.audit_lost(3);
  metrics.spans("exported", 7);
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
           "tunnel_queue_size{priority=\"low\"} 0\n",
           "tunnel_queue_fill_ratio 0.75\n",
           "tunnel_queue_wait_seconds_count{priority=\"low\"} 1\n",
           "tunnel_queue_dropped_total{reason=\"evicted\",priority=\"low\"} 1\n",
           "tunnel_queue_dropped_total{reason=\"full\",priority=\"high\"} 1\n",
           "tunnel_queue_dropped_total{reason=\"expired\",priority=\"normal\"} 0\n",
           "tunnel_backpressure_events_total{level=\"throttle\"} 1\n",
           "tunnel_circuit_breaker_transitions_total{to=\"open\"} 1\n",
           "tunnel_rate_limit_violations_total{scope=\"ip\",user_tier=\"free\"} 1\n",
           "tunnel_penalized_addresses{state=\"throttled\"} 5\n",
           "tunnel_penalized_addresses{state=\"blocked\"} 2\n",
           "tunnel_compression_bytes_total{direction=\"sent\",stage=\"before\"} 100\n",
           "tunnel_compression_bytes_total{direction=\"sent\",stage=\"after\"} 40\n",
           "tunnel_audit_events_total{event=\"auth.failed\"} 1\n",
           "tunnel_audit_write_errors_total 3\n",
           "tunnel_trace_spans_total{result=\"exported\"} 7\n",
           "tunnel_trace_spans_total{result=\"dropped\"} 0\n",
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

TEST(Metrics, ShowTheWorstBreakerOfEveryConfiguredService) {
  Metrics metrics(options());
  const auto text = metrics.expose(false, false);
  EXPECT_THAT(text, HasSubstr("tunnel_circuit_breaker_state{service=\"web\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tunnel_circuit_breaker_state{service=\"api\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tunnel_circuit_breaker_state{service=\"quiet\"} 0\n"));
  // A service that is no longer configured is counted but gets no series of its own.
  EXPECT_THAT(text, Not(HasSubstr("service=\"gone\"")));
  EXPECT_THAT(text, HasSubstr("tunnel_circuit_breakers{state=\"closed\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tunnel_circuit_breakers{state=\"open\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tunnel_circuit_breakers{state=\"half_open\"} 2\n"));
}

TEST(Metrics, CountRequestsByTheirPriority) {
  Metrics metrics(options());
  metrics.request_finished({.tier = Tier::premium, .priority = Priority::high, .took = 1ms});
  metrics.request_finished(
      {.tier = Tier::premium, .priority = Priority::low, .outcome = tunnel::Outcome::error, .took = 1ms});
  const auto text = metrics.expose(false, false);
  const std::string total = "tunnel_requests_total";
  EXPECT_THAT(text, HasSubstr(total + "{status=\"success\",user_tier=\"premium\",priority=\"high\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(total + "{status=\"error\",user_tier=\"premium\",priority=\"low\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(total + "{status=\"success\",user_tier=\"premium\",priority=\"normal\"} 0\n"));
  EXPECT_EQ(metrics.snapshot().succeeded, 1U);
  EXPECT_EQ(metrics.snapshot().failed, 1U);
}

TEST(Metrics, CountAsSlowWhatTakesLongerThanTheSetting) {
  Metrics metrics(options());
  metrics.request_finished({.took = 5s});
  EXPECT_EQ(metrics.snapshot().slow, 0U) << "exactly the limit is not over it";
  metrics.request_finished({.took = 5001ms});
  EXPECT_EQ(metrics.snapshot().slow, 1U);
  metrics.set_slow(100ms);
  metrics.request_finished({.took = 101ms});
  EXPECT_EQ(metrics.snapshot().slow, 2U);
}

TEST(Metrics, LeadFromABucketToATraceInOpenMetricsOnly) {
  Metrics metrics(options());
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  metrics.request_finished({.outcome = tunnel::Outcome::error, .took = 700ms, .trace_id = trace});
  metrics.request_finished({.took = 1ms});
  const auto open = metrics.expose(true, false);
  EXPECT_THAT(open, testing::ContainsRegex("outcome=\"error\",le=\"1.0\"\\} 1.* # \\{trace_id=\"" + trace));
  EXPECT_EQ(open.find(trace), open.rfind(trace)) << "in one bucket only";
  EXPECT_THAT(metrics.expose(false, false), Not(HasSubstr(trace)));
}

TEST(Metrics, CountALimitOfAnUnknownScopeAsOther) {
  Metrics metrics(options());
  metrics.rate_limited("moon", Tier::free);
  EXPECT_THAT(metrics.expose(false, false),
              HasSubstr("tunnel_rate_limit_violations_total{scope=\"other\",user_tier=\"free\"} 1\n"));
  EXPECT_EQ(metrics.snapshot().rate_limited, 1U);
}

TEST(Metrics, TellTheQueueByPriorityInTheSnapshot) {
  Metrics metrics(options());
  report_everything(metrics);
  const auto shot = metrics.snapshot();
  EXPECT_THAT(shot.waiting_by_priority, testing::ElementsAre(0, 1, 0));
  EXPECT_EQ(shot.waiting, 1);
  EXPECT_EQ(shot.queue_dropped, 2U) << "one evicted, one refused";
  EXPECT_EQ(shot.audit_lost, 3U);
}

TEST(Metrics, EveryMetricOfTheCatalogueIsExposed) {
  Metrics metrics(options());
  report_everything(metrics);
  const auto shown = families(metrics.expose(false, true));
  for (const auto& row : metric_names::kAll) EXPECT_TRUE(shown.contains(row.name)) << row.name;
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
