#include "tunnelctl/commands/refresh.h"

#include <ostream>

namespace tunnelctl {

Refresh::Refresh(Session& session) : session_(session) {
  if (session.out_is_terminal && !session.json()) screen_ = std::make_unique<terminal::Screen>();
}

std::size_t Refresh::rows() const {
  return screen_ ? screen_->size().rows : 0;
}

void Refresh::show(const std::vector<std::string>& lines) {
  if (screen_) return screen_->draw(lines);
  // An empty line parts the blocks.
  if (!first_ && !session_.json()) session_.out << '\n';
  first_ = false;
  for (const auto& line : lines) session_.out << line << '\n';
  session_.out.flush();
}

bool Refresh::wait(std::chrono::milliseconds interval) const {
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + interval;
  // Nobody reads any more.
  if (!session_.out) return false;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    if (!screen_) return terminal::pause(std::max(left, std::chrono::milliseconds(0)), session_.stop);
    const auto key = screen_->key(std::max(left, std::chrono::milliseconds(0)), session_.stop);
    if (session_.stop.stop_requested() || key == 'q' || key == 'Q') return false;
    if (!key) return true;
  }
}

ExitStatus ended_by_person(const Session& session) {
  return session.stop.stop_requested() ? ExitStatus::interrupted : ExitStatus::ok;
}

}  // namespace tunnelctl
