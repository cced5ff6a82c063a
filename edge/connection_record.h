#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace edge {

/// A connection as diagnostics show it.
struct ConnectionInfo {
  std::uint64_t id = 0;
  std::string peer;  // address and port
  std::size_t thread = 0;
  std::chrono::steady_clock::time_point since{};
  const char* kind = "http";   // http, websocket, upgraded
  std::uint64_t bytes_in = 0;  // payload, TLS taken off
  std::uint64_t bytes_out = 0;
  std::uint64_t requests = 0;
  std::string service;    // what the handler said it serves; empty before
  std::string principal;  // hash of whose connection it is, as the handler said; empty before
  // How a WebSocket ended; 0 and empty before, and for other kinds.
  std::uint16_t close_code = 0;
  const char* closed_by = "";  // client, server
};

/// The same while it lives: written by the connection's thread, read by any.
class ConnectionRecord {
 public:
  ConnectionRecord(std::uint64_t id, std::string peer, std::size_t thread)
      : id_(id), thread_(thread), peer_(std::move(peer)) {}

  void set_kind(const char* kind) { kind_.store(kind, std::memory_order_relaxed); }
  void count_request() {
    requests_.store(requests_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void set_service(std::string_view service) {
    const std::lock_guard lock(mutex_);
    if (service_ != service) service_ = service;
  }
  void set_principal(std::string_view hash) {
    const std::lock_guard lock(mutex_);
    if (principal_ != hash) principal_ = hash;
  }
  void set_peer(std::string peer) {
    const std::lock_guard lock(mutex_);
    peer_ = std::move(peer);
  }
  void set_ending(std::uint16_t close_code, bool by_peer) {
    const std::lock_guard lock(mutex_);
    close_code_ = close_code;
    closed_by_ = by_peer ? "client" : "server";
  }

  bool is_upgraded() const { return kind_.load(std::memory_order_relaxed) != std::string_view("http"); }

  std::uint64_t id() const { return id_; }
  /// All but the bytes, which the transport counts.
  ConnectionInfo snapshot() const {
    const std::lock_guard lock(mutex_);
    return {id_,
            peer_,
            thread_,
            since_,
            kind_.load(std::memory_order_relaxed),
            0,
            0,
            requests_.load(std::memory_order_relaxed),
            service_,
            principal_,
            close_code_,
            closed_by_};
  }

 private:
  const std::uint64_t id_;
  const std::size_t thread_;
  const std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  std::atomic<const char*> kind_{"http"};
  std::atomic<std::uint64_t> requests_{0};
  mutable std::mutex mutex_;
  std::string peer_;
  std::string service_;
  std::string principal_;
  std::uint16_t close_code_ = 0;
  const char* closed_by_ = "";
};

}  // namespace edge
