#include "tunnelctl/mcp/serve.h"

#include <atomic>
#include <utility>

#include "tunnelctl/mcp/lines.h"
#include "tunnelctl/mcp/output.h"

namespace tunnelctl::mcp {

bool serve(ServerOptions options, std::vector<Tool> tools, int input, int output,
           const std::stop_token& stop) {
  std::stop_source end;
  std::atomic<bool> read = true;
  Output out(output);
  {
    Server server(std::move(options), std::move(tools), [&](const std::string& message) {
      if (out.write(message)) return;
      read = false;
      end.request_stop();  // of reading alone: this thread writes an answer now
    });
    const std::stop_callback on_stop(stop, [&] {
      // First of all: an answer that waits for its reader would keep all that follows, and who asked for the
      // stop, waiting with it.
      out.end_in(kLastWords);
      end.request_stop();
      server.stop();
    });
    Lines lines(input, kLongestMessage, end.get_token());
    std::string line;
    for (auto got = lines.next(line); got == Lines::Got::line || got == Lines::Got::too_long;
         got = lines.next(line)) {
      if (got == Lines::Got::line)
        server.receive(line);
      else
        server.refuse_too_long(kLongestMessage);
    }
    if (!read) server.stop();
    out.end_in(kPatience + kLastWords);
    server.finish(kPatience);
  }
  return read;
}

}  // namespace tunnelctl::mcp
