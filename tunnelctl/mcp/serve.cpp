#include "tunnelctl/mcp/serve.h"

#include <atomic>
#include <ostream>
#include <utility>

#include "tunnelctl/mcp/lines.h"

namespace tunnelctl::mcp {

bool serve(ServerOptions options, std::vector<Tool> tools, int input, std::ostream& out,
           const std::stop_token& stop) {
  std::stop_source end;
  std::atomic<bool> written = true;
  {
    Server server(std::move(options), std::move(tools), [&](const std::string& message) {
      out << message << '\n' << std::flush;
      if (out) return;
      written = false;
      end.request_stop();  // of reading alone: this thread writes an answer now
    });
    const std::stop_callback on_stop(stop, [&] {
      server.stop();
      end.request_stop();
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
    if (!written) server.stop();
    server.finish(kPatience);
  }
  return written;
}

}  // namespace tunnelctl::mcp
