#include "tunneld/ssh/session_core.h"

namespace tunneld::ssh {
namespace {

// A reader that empties a whole window within this time would have been faster with a larger one.
constexpr auto kGrowthInterval = std::chrono::milliseconds(250);

}  // namespace

ChannelStream::ChannelStream(std::shared_ptr<SessionCore> session, LIBSSH2_CHANNEL* handle)
    : session_(std::move(session)), handle_(handle), window_(session_->options().initial_window) {
  session_->attach(this);
}

tl::unexpected<Error> ChannelStream::broken(const char* doing) const {
  if (!handle_) return fail(Error::Kind::cancelled, std::string(doing) + ": the stream was closed");
  if (session_->dead())
    return fail(Error::Kind::unavailable, session_->peer() + ": " + session_->what_failed());
  return fail(Error::Kind::unavailable, session_->peer() + ": " + doing + ": " + session_->last_error());
}

asio::awaitable<Result<std::size_t>> ChannelStream::read(std::span<std::byte> into) {
  for (;;) {
    if (!handle_ || session_->dead()) co_return broken("read");
    ssize_t n = libssh2_channel_read(handle_, reinterpret_cast<char*>(into.data()), into.size());
    if (n > 0) {
      grow_window(static_cast<std::size_t>(n));
      co_return static_cast<std::size_t>(n);
    }
    if (n == 0 && libssh2_channel_eof(handle_) == 1) co_return std::size_t{0};
    if (n != LIBSSH2_ERROR_EAGAIN && n != 0) co_return broken("read");
    if (!co_await readable_.wait()) co_return fail(Error::Kind::cancelled, "read cancelled");
  }
}

void ChannelStream::grow_window(std::size_t just_read) {
  const auto limit = session_->window_limit();
  if (window_ >= limit) {
    if (window_ > limit) engine_channel_set_window(handle_, window_ = limit);
    return;
  }
  auto now = std::chrono::steady_clock::now();
  if (read_since_growth_ == 0) growth_started_ = now;
  read_since_growth_ += just_read;
  if (now - growth_started_ > kGrowthInterval) {
    read_since_growth_ = 0;
  } else if (read_since_growth_ >= window_) {
    window_ = std::min(window_ * 2, limit);
    engine_channel_set_window(handle_, window_);
    read_since_growth_ = 0;
  }
}

asio::awaitable<Result<void>> ChannelStream::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (!handle_ || session_->dead()) co_return broken("write");
    if (!session_->output_full()) {
      ssize_t n = libssh2_channel_write(handle_, reinterpret_cast<const char*>(bytes.data()), bytes.size());
      if (n > 0) {
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        continue;
      }
      if (n != LIBSSH2_ERROR_EAGAIN && n != 0) co_return broken("write");
    }
    if (!co_await writable_.wait()) co_return fail(Error::Kind::cancelled, "write cancelled");
  }
  co_return Result<void>{};
}

asio::awaitable<Result<void>> ChannelStream::shutdown_write() {
  if (!handle_ || session_->dead()) co_return broken("shutdown");
  // The send callback takes everything, so this cannot ask to be repeated.
  if (libssh2_channel_send_eof(handle_) < 0) co_return broken("shutdown");
  co_return Result<void>{};
}

void ChannelStream::close() noexcept {
  if (!handle_) return;
  LIBSSH2_CHANNEL* handle = std::exchange(handle_, nullptr);
  session_->detach(this, handle);
  readable_.cancel();
  writable_.cancel();
}

bool ChannelStream::readable() const noexcept {
  return !handle_ || session_->dead() || engine_channel_readable(handle_);
}

void ChannelStream::look_again(bool session_dead) {
  if (readable_.waiting() && (session_dead || engine_channel_readable(handle_))) readable_.notify();
  if (writable_.waiting() && (session_dead || (!session_->output_full() && engine_channel_writable(handle_))))
    writable_.notify();
}

}  // namespace tunneld::ssh
