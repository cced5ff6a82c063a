// bench_delay: a path with a round trip, on one machine. Makes a tun device and sends every IPv4 packet that
// is routed to it back as if it came from the other end, N milliseconds later, with source and destination
// exchanged. Who connects to THERE (10.99.0.2) reaches, over that path, who listens on HERE (10.99.0.1);
// every other address is as near as ever. Segments stay as large as the kernel makes them, so that it costs
// little.
//
//   bench_delay --milliseconds 20      # one way
//
// Prints {"device", "here", "there"} once it works, and goes on until SIGTERM. Needs CAP_NET_ADMIN: run it in
// a network namespace of its own (scripts/bench --delay does).
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arguments.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kHere = "10.99.0.1";
constexpr const char* kThere = "10.99.0.2";
/// Before each packet, of segmentation and checksums (virtio_net_hdr; its header is no C++).
constexpr std::size_t kVirtioHeader = 10;
constexpr std::size_t kSourceAt = kVirtioHeader + 12;  // within the IPv4 header
constexpr std::size_t kMaxPacket = kVirtioHeader + 64 * 1024;
/// More than any window used here; a sender that goes beyond loses packets, as on any path.
constexpr std::size_t kMaxUnderWay = 256 * 1024 * 1024;

[[noreturn]] void failed(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

sockaddr address_of(const char* text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  ::inet_pton(AF_INET, text, &address.sin_addr);
  sockaddr plain{};
  std::memcpy(&plain, &address, sizeof plain);
  return plain;
}

/// A device with both addresses, up.
int make_device(std::string& name) {
  const int device = ::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (device < 0) failed("/dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  if (::ioctl(device, TUNSETIFF, &request) != 0) failed("TUNSETIFF");
  name = request.ifr_name;
  if (::ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) != 0) failed("TUNSETOFFLOAD");
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) failed("socket");
  const auto set = [&](unsigned long what) {
    if (::ioctl(socket, what, &request) != 0) failed("setting up the device");
  };
  request.ifr_addr = address_of(kHere);
  set(SIOCSIFADDR);
  request.ifr_dstaddr = address_of(kThere);
  set(SIOCSIFDSTADDR);
  request.ifr_qlen = 10'000;
  set(SIOCSIFTXQLEN);
  request.ifr_flags = IFF_UP | IFF_RUNNING | IFF_POINTOPOINT;
  set(SIOCSIFFLAGS);
  ::close(socket);
  return device;
}

/// What is on its way, oldest first.
class Line {
 public:
  Line(int device, Clock::duration delay) : device_(device), delay_(delay) {}

  /// Takes what has come and sends what is due; then waits for either.
  void turn() {
    for (int i = 0; i < 64 && take(); ++i) send_due();
    send_due();
    timespec left{1, 0};
    if (!under_way_.empty()) {
      const auto wait = std::max(under_way_.front().due - Clock::now(), Clock::duration::zero());
      const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(wait).count();
      left = {nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    }
    pollfd state{device_, POLLIN, 0};
    ::ppoll(&state, 1, &left, nullptr);
  }

 private:
  struct Packet {
    Clock::time_point due;
    std::vector<std::byte> bytes;
  };

  bool take() {
    const auto size = ::read(device_, buffer_.data(), buffer_.size());
    if (size <= 0) return false;
    const auto bytes = static_cast<std::size_t>(size);
    const bool is_ipv4 = bytes >= kSourceAt + 8 && std::to_integer<int>(buffer_[kVirtioHeader]) >> 4 == 4;
    if (!is_ipv4 || bytes_ + bytes > kMaxUnderWay) return true;
    // Checksums add up to the same.
    std::swap_ranges(&buffer_[kSourceAt], &buffer_[kSourceAt + 4], &buffer_[kSourceAt + 4]);
    under_way_.push_back({Clock::now() + delay_, {buffer_.data(), buffer_.data() + bytes}});
    bytes_ += bytes;
    return true;
  }

  void send_due() {
    const auto now = Clock::now();
    while (!under_way_.empty() && under_way_.front().due <= now) {
      const auto& bytes = under_way_.front().bytes;
      // What the device does not take is lost.
      if (::write(device_, bytes.data(), bytes.size()) < 0 && errno == EBADFD)
        failed("writing to the device");
      bytes_ -= bytes.size();
      under_way_.pop_front();
    }
  }

  const int device_;
  const Clock::duration delay_;
  std::array<std::byte, kMaxPacket> buffer_;
  std::deque<Packet> under_way_;
  std::size_t bytes_ = 0;
};

volatile std::sig_atomic_t stop_asked = 0;

}  // namespace

int main(int argc, char** argv) {
  try {
    bench::Arguments arguments(argc - 1, argv + 1, {});
    const auto delay = std::chrono::milliseconds(arguments.number("milliseconds", 20));
    arguments.finish();
    std::string name;
    const int device = make_device(name);
    for (const int number : {SIGTERM, SIGINT}) std::signal(number, [](int) { stop_asked = 1; });
    std::printf("{\"device\": \"%s\", \"here\": \"%s\", \"there\": \"%s\"}\n", name.c_str(), kHere, kThere);
    std::fflush(stdout);
    Line line(device, delay);
    while (!stop_asked) line.turn();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_delay: %s\n", error.what());
    return 1;
  }
}
