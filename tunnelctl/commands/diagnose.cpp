#include <exception>
#include <ostream>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "tunnelctl/client/diagnosis_path.h"
#include "tunnelctl/client/listeners.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl {
namespace {

namespace asio = boost::asio;
using client::StepResult;

/// Of what was seen, in the table; the line below it has the whole cause.
constexpr std::size_t kWidest = 110;

struct Diagnose {
  std::string server{};
  std::string service{};
  bool echo = false;
};

std::string in_ms(double value) {
  const auto text = std::to_string(value);
  return text.substr(0, text.find('.') + 2) + " ms";
}

std::string quality_line(const client::Quality& quality) {
  const auto& latency = quality.latency;
  auto line = std::string(quality.word) + " (p50 " + in_ms(latency.p50_ms) + ", p95 " +
              in_ms(latency.p95_ms) + ", jitter " + in_ms(latency.jitter_ms) + "; ";
  line += quality.retransmit_ratio ? "TCP sent " + terminal::percent(*quality.retransmit_ratio) + " again"
                                   : "what TCP sent again is not known";
  line += ", " + terminal::percent(latency.missed_ratio()) + " of pings unanswered";
  if (quality.throughput_bytes) line += ", " + terminal::bytes(*quality.throughput_bytes) + "/s";
  return line + ")";
}

void print_text(Session& session, const client::Diagnosis& done) {
  const auto painted = [&](StepResult result) {
    const auto colour = result == StepResult::passed   ? terminal::Colour::green
                        : result == StepResult::failed ? terminal::Colour::red
                                                       : terminal::Colour::grey;
    return terminal::paint(client::to_string(result), colour, session.coloured());
  };
  std::vector<std::vector<std::string>> rows;
  for (const auto& step : done.steps) {
    const bool ran = step.result != StepResult::skipped;
    rows.push_back({step.name, painted(step.result), ran ? std::to_string(step.took.count()) + " ms" : "-",
                    terminal::shortened(terminal::harmless(step.detail), kWidest)});
  }
  const auto heading = terminal::paint("RESULT", terminal::Colour::bold, session.coloured());
  session.out << terminal::harmless(done.target) << '\n';
  terminal::print_table(session.out, {"STEP", heading, "TIME", "SEEN"}, rows);
  if (done.quality) session.out << "\nQuality: " << quality_line(*done.quality) << '\n';
  if (done.clock_note) session.out << "\nClock: " << *done.clock_note << '\n';
  if (!done.finding) return;
  session.out << "\nCause: " << terminal::harmless(done.finding->explanation)
              << "\nDo: " << terminal::harmless(done.finding->suggestion) << '\n';
}

Json quality_json(const client::Quality& quality) {
  const auto& latency = quality.latency;
  Json json{{"word", quality.word},       {"p50Ms", latency.p50_ms},
            {"p95Ms", latency.p95_ms},    {"jitterMs", latency.jitter_ms},
            {"pings", latency.pings},     {"missedPongRatio", latency.missed_ratio()},
            {"retransmitRatio", nullptr}, {"throughputBytesPerSecond", nullptr}};
  if (quality.retransmit_ratio) json["retransmitRatio"] = *quality.retransmit_ratio;
  if (quality.throughput_bytes) json["throughputBytesPerSecond"] = *quality.throughput_bytes;
  return json;
}

void print_json(Session& session, const client::Diagnosis& done, ExitStatus status) {
  Json steps = Json::array();
  for (const auto& step : done.steps) {
    auto json = step.facts.is_object() ? step.facts : Json::object();
    json["step"] = step.name;
    json["result"] = client::to_string(step.result);
    json["ms"] = step.took.count();
    json["detail"] = step.detail;
    steps.push_back(std::move(json));
  }
  Json json{{"target", done.target},
            {"steps", std::move(steps)},
            {"quality", done.quality ? quality_json(*done.quality) : Json(nullptr)},
            {"clock", done.clock_note ? Json(*done.clock_note) : Json(nullptr)},
            {"cause", nullptr},
            {"explanation", nullptr},
            {"suggestion", nullptr},
            {"exit", static_cast<int>(status)}};
  if (done.finding) {
    json["cause"] = done.finding->cause;
    json["explanation"] = done.finding->explanation;
    json["suggestion"] = done.finding->suggestion;
  }
  session.out << pretty(json);
}

client::Diagnosis walk(client::DiagnosisOptions options, const std::stop_token& stop) {
  asio::io_context io{1};
  asio::cancellation_signal cancel;
  client::Diagnosis done;
  std::exception_ptr failure;
  auto ended = [&](std::exception_ptr error, client::Diagnosis value) {
    failure = error;
    if (!error) done = std::move(value);
    io.stop();
  };
  asio::co_spawn(io, client::diagnose(io, std::move(options), stop),
                 asio::bind_cancellation_slot(cancel.slot(), std::move(ended)));
  const std::stop_callback on_stop(
      stop, [&] { asio::post(io, [&] { cancel.emit(asio::cancellation_type::terminal); }); });
  io.run();
  // A step that was cancelled may say so by an exception.
  if (failure && !stop.stop_requested()) std::rethrow_exception(failure);
  return done;
}

Result<ExitStatus> run(const Diagnose& options, Session& session) {
  if (!options.service.empty() && !client::is_service_name(options.service))
    return refuse(
        session, ExitStatus::usage,
        "--service " + options.service + ": that is no name of a service; they are made of a-z, 0-9 and -");
  if (options.echo && options.service.empty())
    return refuse(session, ExitStatus::usage,
                  "--echo needs --service and the name of one that sends back what it gets");
  auto server = session.server(options.server);
  if (!server) return tl::unexpected(server.error());
  const auto done =
      walk({.server = std::move(*server), .service = options.service, .echo = options.echo}, session.stop);
  if (session.stop.stop_requested()) return fail(Error::Kind::cancelled, "stopped");
  const auto status = done.finding ? ExitStatus::failure : ExitStatus::ok;
  session.json() ? print_json(session, done, status) : print_text(session, done);
  return status;
}

}  // namespace

void add_diagnose(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Diagnose>();
  auto& verb = add_verb(app, chosen, "diagnose",
                        "Tests each part of the way to tunneld and names what is wrong, within a minute",
                        "  tunnelctl diagnose --server wss://tunnel.example.org\n"
                        "  tunnelctl diagnose --service ssh\n"
                        "  tunnelctl diagnose --service echo --echo --output json | jq '.cause, .quality'",
                        options);
  verb.add_option("--server", options->server, "tunneld's address, wss://host[:port] (TUNNEL_SERVER)")
      ->type_name("URL");
  verb.add_option("--service", options->service, "also open this service, which tests the SSH behind tunneld")
      ->type_name("NAME");
  verb.add_flag(
      "--echo", options->echo,
      "the service sends back what it gets: measure with a MiB and with 5 s of all that goes through");
}

}  // namespace tunnelctl
