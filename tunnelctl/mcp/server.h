#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/mcp/calls.h"
#include "tunnelctl/mcp/content.h"
#include "tunnelctl/mcp/message.h"
#include "tunnelctl/mcp/tool.h"

namespace tunnelctl::mcp {

struct ServerOptions {
  std::string name{};
  std::string version{};
  std::string instructions{};  // what an assistant should know before it chooses a tool
  /// Why a tool that is not served is not: "it writes, ...". Empty: nothing is known of that name.
  std::function<std::string(std::string_view name)> why_not{};
  std::size_t most_answer_bytes = 64 * 1024;
  Calls::Options calls{};
};

/// One conversation: takes the messages of a client and writes the answers.
///
/// Speaks the revisions that begin with `initialize` and the one without, also mixed. Nothing but tools is
/// served, and nothing is asked of the client.
class Server {
 public:
  /// Gets one whole message, without the end of its line; from several threads, one at a time.
  using Write = std::function<void(const std::string& message)>;

  Server(ServerOptions options, std::vector<Tool> tools, Write write);

  /// One line of input; empty ones are passed over. From one thread.
  void receive(std::string_view line);
  /// A line that was too long to be kept.
  void refuse_too_long(std::size_t longest);
  /// Ends: see Calls.
  void stop() { calls_.stop(); }
  void finish(std::chrono::milliseconds patience) { calls_.finish(patience); }

  /// The result of `tools/list`.
  Json tool_list() const;

 private:
  /// What a request is answered by.
  enum class Era { none, handshake, stateless };
  /// Where one answer goes; null for none (a cancelled call).
  using Reply = std::function<void(Json)>;
  struct Batch;

  void receive_batch(std::vector<Message> messages);
  void handle(Message message, const Reply& reply);
  void notified(const Message& message);
  /// Fills `era`; the answer when the request cannot be served.
  Json check_version(const Message& request, Era& era) const;
  Json initialize(const Message& request);
  Json discover(const Message& request) const;
  Json list(const Message& request, Era era) const;
  void call(Message request, Era era, const Reply& reply);
  Json finished(Json result, Era era, bool may_be_kept = false) const;
  Structured structured(Era era) const;
  Json implementation() const;
  void write(const Json& message);

  const ServerOptions options_;
  const std::vector<Tool> tools_;
  const Write write_;
  std::mutex writing_;
  std::string version_{};  // agreed on by `initialize`; empty before
  Calls calls_;            // last: its threads use the others
};

}  // namespace tunnelctl::mcp
