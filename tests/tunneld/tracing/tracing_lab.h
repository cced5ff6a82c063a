#pragma once

#include <stdlib.h>
#include <sys/stat.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>

#include "tests/support/loopback_server.h"
#include "tunneld/tracing/tracer.h"

/// What the tests of this room share.
namespace tracing_lab {

inline std::filesystem::path repository() {
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path().parent_path();
}

/// Removed with all its files.
class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tracing-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path file(const std::string& name, const std::string& content, mode_t mode = 0600) const {
    const auto path = path_ / name;
    std::ofstream(path, std::ios::binary) << content;
    ::chmod(path.c_str(), mode);
    return path;
  }

 private:
  std::filesystem::path path_;
};

/// An answer in protobuf; the empty message says that all is well.
inline std::string protobuf_answer(unsigned status, const std::string& body = "",
                                   const std::string& headers = "") {
  return "HTTP/1.1 " + std::to_string(status) + " Because\r\nContent-Type: application/x-protobuf\r\n" +
         headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

/// ExportTraceServiceResponse{partial_success{rejected_spans, error_message}}; both short.
inline std::string partial_success(unsigned rejected, const std::string& message) {
  std::string partial;
  if (rejected != 0) partial += std::string("\x08") + static_cast<char>(rejected);
  if (!message.empty()) partial += std::string("\x12") + static_cast<char>(message.size()) + message;
  return std::string("\x0A") + static_cast<char>(partial.size()) + partial;
}

/// google.rpc.Status{message}.
inline std::string status_body(const std::string& message) {
  return std::string("\x12") + static_cast<char>(message.size()) + message;
}

/// Counts what a tracer reports.
class Counts {
 public:
  tunneld::tracing::Tracer::Reports reports() {
    return {.spans = [this](std::string_view result, std::uint64_t spans) {
      const std::lock_guard lock(mutex_);
      counts_[std::string(result)] += spans;
      changed_.notify_all();
    }};
  }
  std::uint64_t of(const std::string& result) const {
    const std::lock_guard lock(mutex_);
    const auto found = counts_.find(result);
    return found == counts_.end() ? 0 : found->second;
  }
  /// False after ten seconds.
  bool reaches(const std::string& result, std::uint64_t spans) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return counts_[result] >= spans; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::uint64_t> counts_;
};

/// A sampled span that knows its name and no more.
inline tunneld::tracing::Span plain_span() {
  tunneld::tracing::Span span;
  span.name = "tunnel.request";
  span.context.trace_id.fill(0x11);
  span.context.span_id.fill(0x22);
  span.context.sampled = true;
  span.start = std::chrono::system_clock::time_point(std::chrono::seconds(1'800'000'000));
  span.took = std::chrono::milliseconds(5);
  return span;
}

}  // namespace tracing_lab
