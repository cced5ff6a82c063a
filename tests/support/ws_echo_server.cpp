// Serves WebSocket echo (same opcode, same message boundaries) on tunneld's own door, for the Autobahn
// test suite; and two paths for measuring: GET /zeros/<MiB> answers that much, POST /sink takes a body.
// Usage: ws_echo_server <address:port> [certificate.pem key.pem]   (port 0: a free one, printed)

#include <charconv>
#include <csignal>
#include <cstdio>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include "edge/server.h"
#include "edge/tls_context.h"
#include "edge/websocket.h"
#include "tests/support/recording_observer.h"

namespace {

namespace asio = boost::asio;
using namespace tunneld;

constexpr std::size_t kPiece = 256 * 1024;

asio::awaitable<void> echo_messages(edge::WebSocket& socket) {
  std::vector<std::byte> buffer(kPiece);
  bool within = false;
  for (;;) {
    auto piece = co_await socket.read_piece(buffer);
    if (!piece || piece->ended) co_return;
    const auto opcode = within        ? edge::Opcode::continuation
                        : piece->text ? edge::Opcode::text
                                      : edge::Opcode::binary;
    within = !piece->message_end;
    if (!co_await socket.write_frame(opcode, piece->message_end, std::span(buffer).first(piece->bytes)))
      co_return;
  }
}

tunnel::ResponseHead ok(tunnel::BodyFraming body) {
  tunnel::ResponseHead head;
  head.status = 200;
  head.reason = "OK";
  head.body = body;
  return head;
}

class Echo final : public tunnel::HttpHandler {
 public:
  asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override {
    exchange.authenticated(tunnel::Tier::free);
    const std::string_view target = exchange.request().target;
    if (exchange.request().wants_upgrade) {
      auto stream = co_await exchange.accept_websocket(tunnel::WebSocketAccept());
      // This door hands out no other class.
      if (stream) co_await echo_messages(static_cast<edge::WebSocketDoor&>(**stream).websocket());
      co_return;
    }
    std::vector<std::byte> buffer(kPiece);
    if (target.starts_with("/zeros/")) {
      std::uint64_t left = 0;
      std::from_chars(target.data() + 7, target.data() + target.size(), left);
      left *= 1024 * 1024;
      auto sent = co_await exchange.send_head(ok(tunnel::SizedBody{left}));
      while (sent && left > 0) {
        const auto part = std::min<std::uint64_t>(left, buffer.size());
        sent = co_await exchange.write_body(std::span(buffer).first(part));
        left -= part;
      }
      co_return;
    }
    auto got = co_await exchange.read_body(buffer);
    while (got && *got > 0) got = co_await exchange.read_body(buffer);
    const std::string_view done = "ok";
    const auto head = ok(tunnel::SizedBody{done.size()});
    if (got) (void)co_await exchange.send_head_with(head, std::as_bytes(std::span(done)));
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 4) {
    std::fputs("usage: ws_echo_server <address:port> [certificate.pem key.pem]\n", stderr);
    return 2;
  }
  asio::io_context context(1);
  Echo echo;
  test::RecordingObserver observer;
  edge::Options options;
  options.listen = {argv[1]};
  options.max_message_bytes = 17 * 1024 * 1024;  // Autobahn sends up to 16 MiB
  options.max_fragments = SIZE_MAX;
  options.max_pings_per_second = 1000;
  edge::Server::Parts parts;
  parts.threads = {&context};
  parts.handler = [&echo](std::size_t) -> tunnel::HttpHandler& { return echo; };
  parts.observer = &observer;
  if (argc == 4) {
    auto tls = edge::load_tls({argv[2], argv[3]});
    if (!tls) {
      std::fprintf(stderr, "%s\n", tls.error().message.c_str());
      return 1;
    }
    parts.tls = *tls;
  }
  edge::Server server(options, std::move(parts));
  if (auto started = server.start(); !started) {
    std::fprintf(stderr, "%s\n", started.error().message.c_str());
    return 1;
  }
  std::printf("%u\n", static_cast<unsigned>(server.local_endpoints().front().port()));
  std::fflush(stdout);
  asio::signal_set signals(context, SIGTERM, SIGINT);
  signals.async_wait([&](boost::system::error_code, int) { context.stop(); });
  context.run();
  return 0;
}
