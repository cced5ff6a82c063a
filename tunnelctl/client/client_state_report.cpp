#include "tunnelctl/client/client_state_report.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {

ClientReport::ClientReport(asio::io_context& io, Parts parts)
    : parts_(std::move(parts)), look_timer_(io), watchdog_timer_(io) {
  auto& state = parts_.state;
  const std::chrono::system_clock::time_point never{};
  if (state.started == never) state.started = std::chrono::system_clock::now();
  if (state.since == never) state.since = state.started;
}

Result<void> ClientReport::start() {
  ping_watchdog();
  if (parts_.folder.empty()) return {};
  auto file = ClientStateFile::create(parts_.folder, parts_.state.kind);
  if (!file) return tl::unexpected(file.error());
  file_ = std::move(*file);
  look_again();
  return {};
}

void ClientReport::on_state(const StateChange& change) {
  parts_.state.note(change);
  const auto text = std::string(to_string(change.state)) + (change.why.empty() ? "" : ": " + change.why);
  if (change.state == State::connected && !std::exchange(ready_, true))
    parts_.manager.ready(text);
  else if (!stopping_)
    parts_.manager.status(text);
  write();
}

void ClientReport::on_attempt(const Attempt& attempt) {
  parts_.state.note(attempt);
  write();
}

void ClientReport::on_notice(std::string_view what) {
  parts_.state.note(std::chrono::system_clock::now(), what);
  write();
}

void ClientReport::stopping(std::string_view what) {
  if (std::exchange(stopping_, true)) return;
  parts_.manager.stopping(what);
  on_notice(what);
}

void ClientReport::write() {
  if (!file_) return;
  if (parts_.figures) parts_.state.figures = parts_.figures();
  auto state = to_json(parts_.state);
  auto text = state.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text == written_) return;
  // One that cannot be written now is tried again at the next look.
  if (file_->write(std::move(state))) written_ = std::move(text);
}

void ClientReport::look_again() {
  write();
  look_timer_.expires_after(parts_.every);
  look_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) look_again();
  });
}

void ClientReport::ping_watchdog() {
  const auto within = parts_.manager.watchdog();
  if (!within) return;
  parts_.manager.ping_watchdog();
  watchdog_timer_.expires_after(*within / 2);
  watchdog_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) ping_watchdog();
  });
}

}  // namespace tunnelctl::client
