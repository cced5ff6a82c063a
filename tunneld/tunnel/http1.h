#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <tl/expected.hpp>

/// HTTP/1.1 messages without I/O: strict parsing of what strangers send and writing of what we send.
/// Sources: RFC 9110, RFC 9112; rules S3 and S4 of docs/architecture.md. Stricter than the RFC where
/// leniency has been a smuggling vector: CRLF only, no obs-fold, no NUL, one Content-Length, never
/// Content-Length with Transfer-Encoding, Transfer-Encoding only exactly "chunked".
namespace tunneld::tunnel {

struct Header {
  std::string name;   // as received; compare with same_name()
  std::string value;  // optional white space around it removed
};

/// ASCII case-insensitive comparison of field names.
bool same_name(std::string_view left, std::string_view right);

struct HeadLimits {
  std::size_t max_line_bytes = 8 * 1024;    // request line, and each field line
  std::size_t max_total_bytes = 32 * 1024;  // the whole head
  std::size_t max_fields = 100;
};

/// How a message's body is delimited.
struct NoBody {};
struct SizedBody {
  std::uint64_t bytes = 0;
};
struct ChunkedBody {};
struct UntilCloseBody {};  // answers only
using BodyFraming = std::variant<NoBody, SizedBody, ChunkedBody, UntilCloseBody>;

struct RequestHead {
  std::string method;
  std::string target;     // origin-form, as received
  int minor_version = 1;  // HTTP/1.<minor>
  std::vector<Header> fields;
  BodyFraming body;        // NoBody, SizedBody or ChunkedBody
  bool keep_alive = true;  // what the caller asked for
  bool expects_continue = false;
  bool wants_upgrade = false;  // Connection: upgrade with an Upgrade field

  /// First field of that name, or nullptr.
  const std::string* find(std::string_view name) const;
};

struct ResponseHead {
  unsigned status = 0;
  std::string reason;
  int minor_version = 1;
  std::vector<Header> fields;
  BodyFraming body;  // depends on the request's method: see parse_response_head
  bool keep_alive = true;
  const std::string* find(std::string_view name) const;
};

/// Why a message was refused, as a metric label and as the status to answer with.
struct Malformed {
  std::string_view reason;  // e.g. "obs_fold", "duplicate_content_length", "header_count"
  unsigned status = 400;    // 400, 405, 413, 414, 431, 501 or 505
};

/// The head's size in bytes, its CRLF CRLF included, if `bytes` holds a whole one; nullopt if more is
/// needed. `scanned` is how many bytes earlier calls already looked at (kept by the caller, so that a
/// dribbling peer costs linear time).
std::optional<std::size_t> find_head_end(std::span<const std::byte> bytes, std::size_t& scanned);

tl::expected<RequestHead, Malformed> parse_request_head(std::string_view head, const HeadLimits& limits);

/// `request_method` decides the framing: HEAD and 204/304/1xx have no body.
tl::expected<ResponseHead, Malformed> parse_response_head(std::string_view head,
                                                          std::string_view request_method,
                                                          const HeadLimits& limits);

/// Decodes a chunked body in place as bytes arrive. Not copyable into the middle of a body.
class ChunkDecoder {
 public:
  struct Step {
    std::size_t consumed = 0;         // bytes of the input used up
    std::span<const std::byte> data;  // payload found in them (points into the input)
    bool done = false;                // last chunk and trailers seen
  };
  explicit ChunkDecoder(const HeadLimits& limits = {}) : limits_(limits) {}
  /// Decodes the next piece: call again with the rest of the input while `consumed` > 0 and not done.
  tl::expected<Step, Malformed> decode(std::span<const std::byte> input);
  const std::vector<Header>& trailers() const { return trailers_; }

 private:
  enum class State { size_line, data, data_end, trailer_line, done };
  HeadLimits limits_;
  State state_ = State::size_line;
  std::uint64_t left_ = 0;
  std::string line_;
  std::size_t trailer_bytes_ = 0;
  std::vector<Header> trailers_;
};

/// The text of a head, ending in the empty line. Framing fields (Content-Length, Transfer-Encoding)
/// are written from `body`; fields of that name in `fields` must not be there.
std::string serialize(const RequestHead& head);
std::string serialize(const ResponseHead& head);
/// "<hex size>\r\n" to put before `bytes` bytes of chunk data (which "\r\n" follows).
std::string chunk_prefix(std::size_t bytes);
/// "0\r\n", the trailers, "\r\n".
std::string chunk_end(const std::vector<Header>& trailers);

}  // namespace tunneld::tunnel
