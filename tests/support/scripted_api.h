#pragma once

#include <functional>
#include <map>
#include <string>

#include "tests/support/loopback_server.h"

namespace support {

/// A JSON API on loopback: for each path what it answers; 404 for the rest.
class ScriptedApi {
 public:
  struct Asked {
    std::string method, path, query, body, head;
  };
  struct Says {
    unsigned status = 200;
    std::string body{};
  };
  using Answer = std::function<Says(const Asked&)>;

  explicit ScriptedApi(std::map<std::string, Answer> answers)
      : answers_(std::move(answers)),
        server_([this](const LoopbackServer::Seen& seen) { return reply(seen); }) {}

  /// Without slash at its end.
  std::string url() const {
    std::string url = server_.url();
    url.pop_back();
    return url;
  }
  /// "GET /path?query", in the order in which they came.
  std::vector<std::string> lines() const {
    std::vector<std::string> result;
    for (const auto& seen : server_.seen()) result.push_back(seen.head.substr(0, seen.head.find(" HTTP/")));
    return result;
  }
  const LoopbackServer& server() const { return server_; }

  static Asked parse(const LoopbackServer::Seen& seen) {
    const std::string line = seen.head.substr(0, seen.head.find(" HTTP/"));
    const auto space = line.find(' ');
    const std::string target = line.substr(space + 1);
    const auto mark = target.find('?');
    return {line.substr(0, space), target.substr(0, mark),
            mark == std::string::npos ? "" : target.substr(mark + 1), seen.body, seen.head};
  }

 private:
  LoopbackServer::Reply reply(const LoopbackServer::Seen& seen) {
    const Asked asked = parse(seen);
    const auto found = answers_.find(asked.path);
    const Says says =
        found == answers_.end() ? Says{404, "{\"message\":\"Not found\"}"} : found->second(asked);
    std::string answer = http_answer(says.status, says.body);
    // The answer to HEAD has no body, whatever its length says.
    if (asked.method == "HEAD") answer.resize(answer.size() - says.body.size());
    return {answer, LoopbackServer::Then::keep};
  }

  const std::map<std::string, Answer> answers_;
  LoopbackServer server_;
};

}  // namespace support
