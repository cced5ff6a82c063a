#include "tunnelctl/incident/grafana_patience.h"

#include <condition_variable>
#include <mutex>
#include <thread>

namespace tunnelctl::incident {

Result<void> ask_grafana(const grafana::Connection& connection, std::chrono::milliseconds patience,
                         const std::stop_token& stop,
                         const std::function<Result<void>(grafana::Server& server)>& work) {
  std::stop_source end;
  const std::stop_callback also(stop, [&end] { end.request_stop(); });
  auto server = grafana::Server::make(connection, end.get_token());
  if (!server) return tl::unexpected(server.error());
  const std::jthread clock([&end, patience](const std::stop_token& done) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any over;
    over.wait_for(lock, done, patience, [] { return false; });
    if (!done.stop_requested()) end.request_stop();
  });
  auto result = work(*server);
  if (!result && result.error().kind == Error::Kind::cancelled && !stop.stop_requested())
    return fail(Error::Kind::unavailable,
                connection.url + ": no answer within " + std::to_string(patience.count()) + " ms");
  return result;
}

}  // namespace tunnelctl::incident
