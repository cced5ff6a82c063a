#include "link.h"

#include <algorithm>
#include <array>
#include <exception>
#include <stdexcept>

namespace bench {
namespace {

constexpr std::size_t kReadSize = 256 * 1024;
// One link may keep the loop for this long before the others have their turn.
constexpr int kReadsPerTurn = 2;

std::span<std::byte> read_buffer() {
  thread_local std::vector<std::byte> buffer(kReadSize);
  return buffer;
}

std::span<std::byte> frame_buffer() {
  thread_local std::vector<std::byte> buffer(kFramePayload + kFrameHeaderMax);
  return buffer;
}

}  // namespace

Link::Link(Loop& loop, const Endpoint& to, const std::string& token, TlsClient* tls, Owner& owner)
    : loop_(loop),
      owner_(owner),
      socket_(dial_tcp(to), to.tls ? tls->open(to.host) : nullptr),
      state_(State::connecting),
      websocket_(to.kind == Endpoint::Kind::websocket) {
  if (websocket_) upgrade_ = make_upgrade(to, token);
  watching_ = EPOLLIN | EPOLLOUT;
  loop_.add(socket_.fd(), watching_, *this);
}

Link::Link(Loop& loop, int fd, Owner& owner)
    : loop_(loop), owner_(owner), socket_(fd, nullptr), state_(State::open) {
  watching_ = EPOLLIN;
  loop_.add(fd, watching_, *this);
}

Link::~Link() {
  close();
}

void Link::close() {
  if (state_ == State::closed) return;
  state_ = State::closed;
  loop_.remove(socket_.fd(), *this);
}

void Link::end(const std::string& why) {
  if (state_ == State::closed) return;
  close();
  owner_.ended(*this, why);
}

void Link::watch() {
  if (state_ == State::closed) return;
  const bool read = !paused_ || state_ != State::open;
  const bool write = socket_.backlog() > 0 || call_when_writable_;
  const std::uint32_t wanted = (read ? EPOLLIN : 0U) | (write ? EPOLLOUT : 0U);
  if (wanted == watching_) return;
  watching_ = wanted;
  loop_.change(socket_.fd(), wanted, *this);
}

void Link::ready(std::uint32_t events) {
  try {
    if (!failure_.empty()) return end(failure_);
    const bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
    if (state_ == State::connecting) {
      socket_.may_have_bytes();
      advance();
      if (state_ == State::connecting) return watch();
    }
    if ((events & EPOLLOUT) != 0) write_out();
    // A peer that is gone is reported even while paused, and again and again until it is read.
    if (((events & EPOLLIN) != 0 && !paused_) || hung_up) {
      if (state_ != State::closed) {
        socket_.may_have_bytes();
        read_some();
      }
    }
    watch();
  } catch (const std::exception& error) {
    end(error.what());
  }
}

void Link::write_out() {
  if (socket_.backlog() == 0 && !call_when_writable_) return;
  socket_.flush();
  if (socket_.backlog() > 0) return;
  call_when_writable_ = false;
  if (goodbye_ && !websocket_) return socket_.shutdown_write();
  if (state_ == State::open) owner_.drained(*this);
}

void Link::call_when_writable() {
  call_when_writable_ = true;
  watch();
}

void Link::advance() {
  if (socket_.handshake() == Socket::Progress::more) return;
  if (websocket_) {
    state_ = State::upgrading;
    socket_.send(std::as_bytes(std::span(upgrade_->request)));
    return;
  }
  state_ = State::open;
  owner_.opened(*this);
}

void Link::read_some() {
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const bool drop = discard_ && !websocket_ && !socket_.tls() && state_ == State::open;
    const auto got = drop ? socket_.discard(kReadSize) : socket_.read(read_buffer());
    if (got.what == Socket::Read::What::nothing) return;
    if (got.what == Socket::Read::What::end) {
      if (state_ == State::upgrading) throw std::runtime_error("closed during the upgrade");
      if (websocket_ && !goodbye_) throw std::runtime_error("closed without a close frame");
      return end({});
    }
    if (drop)
      owner_.discarded(*this, got.count);
    else
      take(read_buffer().first(got.count));
    if (state_ == State::closed || paused_) return;
  }
  loop_.again(*this);
}

void Link::take(std::span<const std::byte> bytes) {
  if (state_ == State::upgrading) {
    const std::size_t before = answer_.size();
    answer_.append(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 16384));
    const auto end_of_head = answer_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
    if (end_of_head == std::string::npos) {
      if (answer_.size() > 16384) throw std::runtime_error("answer to the upgrade is too long");
      return;
    }
    check_upgrade(std::string_view(answer_).substr(0, end_of_head + 4), upgrade_->accept);
    bytes = bytes.subspan(end_of_head + 4 - before);
    upgrade_.reset();
    answer_ = {};
    state_ = State::open;
    owner_.opened(*this);
    if (bytes.empty()) return;
  }
  if (websocket_)
    frames_.feed(bytes, *this);
  else
    payload(bytes);
}

void Link::payload(std::span<const std::byte> bytes) {
  if (state_ != State::open) return;
  if (discard_)
    owner_.discarded(*this, bytes.size());
  else
    owner_.received(*this, bytes);
}

void Link::control(Opcode opcode, std::span<const std::byte> bytes) {
  if (state_ != State::open) return;
  if (opcode == Opcode::ping) return send_frame(Opcode::pong, bytes);
  if (opcode != Opcode::close) return;
  const unsigned code = bytes.size() < 2
                            ? 1005
                            : std::to_integer<unsigned>(bytes[0]) << 8 | std::to_integer<unsigned>(bytes[1]);
  if (!goodbye_) send_frame(Opcode::close, bytes.first(std::min<std::size_t>(bytes.size(), 2)));
  goodbye_ = true;
  if (code == 1000 || code == 1005) return end({});
  const auto reason = bytes.subspan(std::min<std::size_t>(bytes.size(), 2));
  end("closed with code " + std::to_string(code) + " " +
      std::string(reinterpret_cast<const char*>(reason.data()), reason.size()));
}

void Link::send_frame(Opcode opcode, std::span<const std::byte> bytes) {
  const std::size_t size = frame_size(bytes.size());
  if (socket_.tls()) {
    const auto frame = frame_buffer().first(size);
    write_frame(opcode, bytes, frame.data());
    socket_.queue(frame);
  } else {
    write_frame(opcode, bytes, socket_.queue_in_place(size));
  }
  if (opcode != Opcode::binary) {
    socket_.flush();
    watch();
  }
}

void Link::send(std::span<const std::byte> bytes) {
  if (state_ != State::open || !failure_.empty()) return;
  try {
    if (!websocket_) {
      socket_.send(bytes);
    } else {
      while (!bytes.empty()) {
        const auto part = bytes.first(std::min(bytes.size(), kFramePayload));
        bytes = bytes.subspan(part.size());
        send_frame(Opcode::binary, part);
      }
      socket_.flush();
    }
    watch();
  } catch (const std::exception& error) {
    // Not thrown: the caller may be another link's callback.
    failure_ = error.what();
    loop_.again(*this);
  }
}

void Link::pause() {
  paused_ = true;
  watch();
}

void Link::resume() {
  if (!paused_) return;
  paused_ = false;
  if (state_ == State::closed) return;
  watch();
  loop_.again(*this);  // TLS may hold what it has read already
}

void Link::finish() {
  if (state_ != State::open || goodbye_) return;
  goodbye_ = true;
  const std::array<std::byte, 2> normal{std::byte{1000 >> 8}, std::byte{1000 & 0xff}};
  if (websocket_)
    send_frame(Opcode::close, normal);
  else if (socket_.backlog() == 0)
    socket_.shutdown_write();
}

}  // namespace bench
