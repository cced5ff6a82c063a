#include "tunneld/ssh/session_core.h"

#include <algorithm>
#include <cerrno>

#include <boost/asio/post.hpp>

namespace tunneld::ssh {
namespace {

// While the handshake sleeps on that much, more input is not wanted.
constexpr std::size_t kMaxHandshakeBytes = 256 * 1024;
// Packets nobody asked for: some are harmless, a flood is an attack.
constexpr std::uint64_t kMaxUnexpected = 256;
constexpr std::size_t kMaxHeldBytes = 1024 * 1024;

}  // namespace

SessionCore::SessionCore(asio::io_context& io, std::unique_ptr<Wire> wire, const Options& options,
                         tunnel::Observer& observer, std::string peer)
    : io_(io),
      wire_(std::move(wire)),
      options_(options),
      observer_(observer),
      peer_(std::move(peer)),
      keepalive_timer_(io) {
  session_ = libssh2_session_init_ex(nullptr, nullptr, nullptr, this);
  if (!session_) return;
  // libssh2 declares its callbacks without their types.
  libssh2_session_callback_set2(session_, LIBSSH2_CALLBACK_RECV,
                                reinterpret_cast<libssh2_cb_generic*>(&SessionCore::on_recv));
  libssh2_session_callback_set2(session_, LIBSSH2_CALLBACK_SEND,
                                reinterpret_cast<libssh2_cb_generic*>(&SessionCore::on_send));
  libssh2_session_set_blocking(session_, 0);
  // Deadlines are ours; the library's own would leave an unanswered open half-forgotten.
  libssh2_session_set_read_timeout(session_, 24 * 3600);
}

SessionCore::~SessionCore() {
  close();
  for (auto& open : opens_) open->wakeup.cancel();
  if (session_) libssh2_session_free(session_);
}

ssize_t SessionCore::on_recv(libssh2_socket_t, void* buffer, size_t length, int, void** abstract) {
  auto* self = static_cast<SessionCore*>(*abstract);
  if (self->phase_ == Phase::dead) return -ECONNRESET;
  const bool handshake = self->phase_ == Phase::handshake;
  const auto source =
      handshake ? std::span<const std::byte>(self->held_input_).subspan(self->held_taken_) : self->input_;
  if (source.empty()) return -EAGAIN;
  const std::size_t n = std::min(length, source.size());
  std::memcpy(buffer, source.data(), n);
  if (handshake)
    self->held_taken_ += n;
  else
    self->input_ = source.subspan(n);
  return static_cast<ssize_t>(n);
}

/// Never refuses: a packet sent by halves while the far side starts a key exchange would deadlock the
/// library. Growth is bounded by the writers, who look at output_full().
ssize_t SessionCore::on_send(libssh2_socket_t, const void* buffer, size_t length, int, void** abstract) {
  auto* self = static_cast<SessionCore*>(*abstract);
  if (self->phase_ != Phase::dead) {
    self->output_.append({static_cast<const std::byte*>(buffer), length});
    self->request_flush();
  }
  return static_cast<ssize_t>(length);
}

std::string SessionCore::last_error() const {
  char* message = nullptr;
  int length = 0;
  libssh2_session_last_error(session_, &message, &length, 0);
  return message ? std::string(message, static_cast<std::size_t>(length)) : std::string();
}

// ---- input ----

void SessionCore::arm_read() {
  if (phase_ != Phase::dead) wire_->arm_read(*this);
}

bool SessionCore::wants_input() const {
  return phase_ == Phase::running || (phase_ == Phase::handshake && held_input_.size() < kMaxHandshakeBytes);
}

void SessionCore::received(std::span<const std::byte> bytes) {
  last_received_ = std::chrono::steady_clock::now();
  take_input(bytes);
}

void SessionCore::take_input(std::span<const std::byte> bytes) {
  if (phase_ == Phase::handshake) {
    held_input_.insert(held_input_.end(), bytes.begin(), bytes.end());
    input_wakeup_.notify();
    return;
  }
  std::vector<std::byte> whole;
  if (!held_input_.empty()) {
    whole = std::exchange(held_input_, {});
    whole.insert(whole.end(), bytes.begin(), bytes.end());
    bytes = whole;
  }
  input_ = bytes;
  process();
  if (phase_ == Phase::dead) return;
  // Only a library that cannot be drained without a channel leaves any.
  held_input_.assign(input_.begin(), input_.end());
  input_ = {};
  if (held_input_.size() > kMaxHeldBytes) fail_with("the far side sends what no channel takes", "flood");
}

asio::awaitable<bool> SessionCore::input_arrived() {
  held_input_.erase(held_input_.begin(), held_input_.begin() + static_cast<std::ptrdiff_t>(held_taken_));
  const bool progressed = std::exchange(held_taken_, 0) > 0;
  flush();
  arm_read();
  // libssh2 may stop with input still untaken (it collects whole packets first): offer the rest again.
  if (progressed && !held_input_.empty()) co_return phase_ == Phase::handshake;
  const std::size_t before = held_input_.size();
  while (phase_ == Phase::handshake && held_input_.size() == before) {
    const bool woken = co_await input_wakeup_.wait();
    if (!woken) co_return false;
  }
  co_return phase_ == Phase::handshake;
}

void SessionCore::start_running() {
  // What came behind the log-in's answer, some of it perhaps since libssh2 last looked.
  const std::vector<std::byte> rest(held_input_.begin() + static_cast<std::ptrdiff_t>(held_taken_),
                                    held_input_.end());
  held_input_ = {};
  phase_ = Phase::running;
  idle_since_ = last_received_ = std::chrono::steady_clock::now();
  take_input(rest);
  if (phase_ != Phase::running) return;
  arm_read();
  arm_keepalive();
}

void SessionCore::process() {
  std::size_t left;
  do {
    left = input_.size();
    LIBSSH2_CHANNEL* any = !channels_.empty()  ? channels_.front()->handle()
                           : !closing_.empty() ? closing_.front()
                                               : nullptr;
    if (int rc = engine_drain(session_, any, &seen_); rc != 0)
      return fail_with(rc == LIBSSH2_ERROR_DECRYPT
                           ? "a packet failed its integrity check"
                           : "SSH protocol error " + std::to_string(rc) + ": " + last_error(),
                       rc == LIBSSH2_ERROR_DECRYPT ? "integrity" : "protocol");
    if (seen_.unexpected > kMaxUnexpected)
      return fail_with("the far side sends packets nobody asked for", "flood");
    // It may stop although input is left (a whole packet is collected first): go on until it is dry.
  } while (!input_.empty() && input_.size() != left);
  step_opens();
  step_closing();
  wake_channels();
}

void SessionCore::wake_channels() {
  const bool is_dead = phase_ == Phase::dead;
  for (ChannelStream* channel : channels_) channel->look_again(is_dead);
}

// ---- output ----

void SessionCore::request_flush() {
  if (output_.size() >= options_.output_low_bytes) {
    flush();
  } else if (!flush_posted_) {
    // Later handlers of this ready batch add their packets; one write carries them all.
    flush_posted_ = true;
    asio::post(io_, [weak = weak_from_this()] {
      if (auto locked = std::static_pointer_cast<SessionCore>(weak.lock())) {
        locked->flush_posted_ = false;
        locked->flush();
      }
    });
  }
}

void SessionCore::flush() {
  if (phase_ != Phase::dead && !saying_goodbye_) wire_->flush(*this);
}

// ---- channels ----

unsigned SessionCore::free_channels() const {
  return phase_ == Phase::running && used_ < options_.max_channels ? options_.max_channels - used_ : 0;
}

std::uint32_t SessionCore::window_limit() const {
  const auto share =
      options_.session_window / static_cast<std::uint32_t>(std::max<std::size_t>(1, channels_.size()));
  return std::clamp(share, options_.initial_window, options_.max_window);
}

void SessionCore::release_channel() {
  if (--used_ == 0) idle_since_ = std::chrono::steady_clock::now();
  if (channel_free_) channel_free_();
}

asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> SessionCore::open_channel(
    const std::string& host, std::uint16_t port, Deadline deadline) {
  auto self = std::static_pointer_cast<SessionCore>(shared_from_this());
  if (phase_ != Phase::running) co_return tunnel::refuse(tunnel::Code::ssh_error, peer_ + ": " + failure_);
  ++used_;
  auto put_u32 = [](std::string& out, std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>((value >> shift) & 0xff);
  };
  auto open = std::make_shared<PendingOpen>();
  open->state = engine_open_new();
  put_u32(open->message, static_cast<std::uint32_t>(host.size()));
  open->message += host;
  put_u32(open->message, port);
  put_u32(open->message, 9);
  open->message += "127.0.0.1";  // originator: sshd only logs it, and callers stay private
  put_u32(open->message, 0);
  opens_.push_back(open);
  step_opens();

  asio::steady_timer timer(io_, deadline);
  if (!open->done) {
    timer.async_wait([weak = std::weak_ptr<PendingOpen>(open)](boost::system::error_code ec) {
      auto late = weak.lock();
      if (!ec && late) late->wakeup.cancel();
    });
  }
  while (!open->done && std::chrono::steady_clock::now() < deadline) {
    if (!co_await open->wakeup.wait()) break;
  }
  timer.cancel();
  if (!open->done) {
    // Its answer may still come: step_opens() then closes the channel and forgets the open.
    open->abandoned = true;
    observer_.channel_refused("timeout");
    co_return tunnel::refuse(tunnel::Code::timed_out, peer_ + ": no answer to the channel open for " + host +
                                                          ":" + std::to_string(port));
  }
  LIBSSH2_CHANNEL* channel = open->channel;
  std::string failure = std::move(open->failure);
  std::erase(opens_, open);
  if (channel && phase_ == Phase::running) {
    observer_.channel_opened();
    co_return std::make_unique<ChannelStream>(std::move(self), channel);
  }
  release_channel();
  const std::string target = host + ":" + std::to_string(port);
  if (phase_ == Phase::dead) {
    observer_.channel_refused("error");
    co_return tunnel::refuse(tunnel::Code::ssh_error, peer_ + ": " + failure_);
  }
  observer_.channel_refused("refused");
  if (failure.find("connect failed") != std::string::npos)
    co_return tunnel::refuse(tunnel::Code::unreachable, peer_ + " cannot connect to " + target);
  if (failure.find("prohibited") != std::string::npos)
    co_return tunnel::refuse(
        tunnel::Code::ssh_error,
        peer_ + " forbids " + target + ": allow it there with PermitOpen and AllowTcpForwarding");
  if (failure.find("shortage") != std::string::npos)
    co_return tunnel::refuse(tunnel::Code::unavailable, peer_ + " is short of resources");
  co_return tunnel::refuse(tunnel::Code::ssh_error, peer_ + ": " + failure);
}

void SessionCore::step_opens() {
  for (auto at = opens_.begin(); at != opens_.end();) {
    PendingOpen& open = **at;
    if (!open.done) {
      open.channel = engine_open_step(session_, open.state, options_.initial_window, open.message.data(),
                                      open.message.size());
      if (open.channel) {
        open.done = true;
      } else if (libssh2_session_last_errno(session_) != LIBSSH2_ERROR_EAGAIN) {
        open.done = true;
        open.failure = last_error();
      } else if (!options_.concurrent_opens || (engine_capabilities() & ENGINE_CONCURRENT_OPENS) == 0) {
        return;  // the library has room for one: the next waits for this one's answer
      }
      if (open.done && !open.abandoned) open.wakeup.notify();
    }
    if (open.done && open.abandoned) {
      if (open.channel) {
        closing_.push_back(open.channel);
      } else {
        release_channel();
      }
      at = opens_.erase(at);
      continue;
    }
    ++at;
  }
}

void SessionCore::detach(ChannelStream* channel, LIBSSH2_CHANNEL* handle) {
  std::erase(channels_, channel);
  observer_.channel_closed();
  if (phase_ == Phase::dead) {
    release_channel();  // libssh2_session_free() takes the handle along
    return;
  }
  closing_.push_back(handle);
  step_closing();
}

void SessionCore::step_closing() {
  std::erase_if(closing_, [this](LIBSSH2_CHANNEL* channel) {
    // Sends our CLOSE, then waits for the peer's; until then the slot counts as used.
    if (libssh2_channel_free(channel) == LIBSSH2_ERROR_EAGAIN) return false;
    release_channel();
    return true;
  });
}

// ---- life and death ----

void SessionCore::arm_keepalive() {
  keepalive_timer_.expires_after(keepalive_outstanding_ ? options_.keepalive_reply : options_.keepalive);
  keepalive_timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    if (ec) return;
    if (auto self = std::static_pointer_cast<SessionCore>(weak.lock())) self->on_keepalive();
  });
}

void SessionCore::on_keepalive() {
  if (phase_ != Phase::running) return;
  if (keepalive_outstanding_) {
    keepalive_outstanding_ = false;
    keepalive_misses_ = last_received_ > keepalive_sent_ ? 0 : keepalive_misses_ + 1;
    if (keepalive_misses_ >= options_.keepalive_misses)
      return fail_with("no sign of life: " + std::to_string(keepalive_misses_) + " keepalives unanswered",
                       "keepalive");
    if (keepalive_misses_ == 0) return arm_keepalive();
  }
  // libssh2 keeps its own idea of when one is due, in whole seconds: a pause of zero makes it now.
  libssh2_keepalive_config(session_, 1, 1);
  int next = 0;
  libssh2_keepalive_send(session_, &next);
  keepalive_sent_ = std::chrono::steady_clock::now();
  keepalive_outstanding_ = true;
  arm_keepalive();
}

void SessionCore::fail_with(std::string reason, std::string_view label) {
  if (phase_ == Phase::dead) return;
  observer_.ssh_error(phase_ == Phase::running ? "session" : "handshake", label);
  failure_ = std::move(reason);
  die();
}

void SessionCore::close() noexcept {
  if (phase_ == Phase::dead) return;
  if (phase_ == Phase::running) {
    saying_goodbye_ = true;  // what the library sends now is written below, once
    libssh2_session_disconnect_ex(session_, SSH_DISCONNECT_BY_APPLICATION, "tunneld closes", "");
    wire_->send_last(output_);
  }
  failure_ = "closed by tunneld";
  die();
}

void SessionCore::die() {
  if (phase_ == Phase::running) observer_.ssh_session_closed();
  phase_ = Phase::dead;
  wire_->close();
  keepalive_timer_.cancel();
  for (auto& open : opens_) {
    open->done = true;
    open->wakeup.notify();
  }
  input_wakeup_.cancel();
  wake_channels();
  if (channel_free_) channel_free_();
}

}  // namespace tunneld::ssh
