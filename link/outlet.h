#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "link/link.h"
#include "tunnel/byte_stream.h"

namespace links {

namespace asio = boost::asio;

/// Where the frames of a Mux go, and how much of them waits there.
class Outlet {
 public:
  virtual ~Outlet() = default;

  /// Takes a frame, in order; never refuses. Payload is offered only while there is room().
  virtual void append(std::span<const std::byte> head, std::span<const std::byte> body) = 0;
  /// Less waits than a carrier should be given at once.
  virtual bool room() const = 0;
  /// drain() has something to do: frames to send, or room to wait for.
  virtual bool wants_drain() const = 0;
  /// Sees to it that there is room; fails with what the carrier said. One at a time.
  virtual asio::awaitable<Result<void>> drain() = 0;
  /// Another number when the carrier has come to lead over another path.
  virtual std::uint64_t path() const { return 0; }
  /// There is nothing to send for a while.
  virtual void release() {}
};

/// For any stream: frames that are ready leave together, in one write, while the next ones gather.
class StreamOutlet final : public Outlet {
 public:
  /// `carrier` outlives drain().
  explicit StreamOutlet(tunnel::ByteStream& carrier) : carrier_(carrier) {}

  void append(std::span<const std::byte> head, std::span<const std::byte> body) override;
  bool room() const override { return filling_.size + sending_.size < kFull; }
  bool wants_drain() const override { return filling_.size > 0; }
  asio::awaitable<Result<void>> drain() override;
  void release() override;

  /// In one batch or under way in another; writers wait above it.
  static constexpr std::size_t kFull = 256 * 1024;

 private:
  struct Batch {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t capacity = 0;
    std::size_t size = 0;

    void put(std::span<const std::byte> from);
    void reserve(std::size_t wanted);
    void release();
  };
  tunnel::ByteStream& carrier_;
  Batch filling_;
  Batch sending_;  // with the carrier now
};

/// For a Link, which keeps what it sends anyway: frames are written to where it keeps them, and nowhere else.
class LinkOutlet final : public Outlet {
 public:
  /// `link` outlives the outlet's use.
  explicit LinkOutlet(Link& link) : link_(link) {}

  /// Of a link that is over nothing is taken; its reader says why.
  void append(std::span<const std::byte> head, std::span<const std::byte> body) override {
    (void)link_.append(head, body);
  }
  bool room() const override { return link_.sendable(); }
  bool wants_drain() const override { return !link_.sendable(); }
  std::uint64_t path() const override { return link_.resumes(); }
  asio::awaitable<Result<void>> drain() override;

 private:
  Link& link_;
};

}  // namespace links
