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
namespace tunnel {

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
  unsigned status = 400;    // 400, 405, 414, 417, 431, 501 or 505
};

/// The head's size in bytes, its CRLF CRLF included, if `bytes` holds a whole one; nullopt if more is
/// needed. A head that can no longer become valid (a line ending in LF alone) ends at that line, so
/// that it is refused at once and not when the peer falls silent. `scanned` is how many bytes earlier calls
/// already looked at (kept by the caller, so that a dribbling peer costs linear time).
std::optional<std::size_t> find_head_end(std::span<const std::byte> bytes, std::size_t& scanned);

/// `head` is exactly what find_head_end measured. Refuses everything docs/decisions/0004 lists.
tl::expected<RequestHead, Malformed> parse_request_head(std::string_view head, const HeadLimits& limits);

/// `request_method` decides the framing (RFC 9112 6.3): HEAD and 204/304/1xx have no body, whatever
/// Content-Length or Transfer-Encoding their fields name. More lenient than requests in one thing:
/// the space after the status code may be missing when there is no reason phrase.
tl::expected<ResponseHead, Malformed> parse_response_head(std::string_view head,
                                                          std::string_view request_method,
                                                          const HeadLimits& limits);

/// Decodes a chunked body in place as bytes arrive. Not copyable into the middle of a body.
/// Sizes have at most 16 digits; extensions are bounded and ignored. Trailers that frame or route
/// (Content-Length, Transfer-Encoding, Host) are refused, others RFC 9110 6.5.1 forbids are dropped.
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
  /// The next whole line without its CRLF, or nothing while it has not ended.
  tl::expected<std::optional<std::string_view>, Malformed> take_line(std::string_view text,
                                                                     std::size_t& consumed);
  std::optional<Malformed> note_size(std::string_view line);
  std::optional<Malformed> note_data_end(std::string_view line);
  std::optional<Malformed> note_trailer(std::string_view line);

  State state_ = State::size_line;
  std::uint64_t left_ = 0;
  std::string line_;  // the beginning of a line that arrived in pieces
  std::size_t extension_bytes_ = 0;
  std::size_t trailer_bytes_ = 0;
  std::size_t trailer_lines_ = 0;
  std::vector<Header> trailers_;
};

/// The text of a head, ending in the empty line. Framing fields (Content-Length, Transfer-Encoding)
/// are written from `body`; fields of that name in `fields` must not be there. An answer with NoBody
/// gets "Content-Length: 0" unless its status (1xx, 204, 304) says so already.
std::string serialize(const RequestHead& head);
std::string serialize(const ResponseHead& head);
/// "<hex size>\r\n" to put before `bytes` bytes of chunk data (which "\r\n" follows).
std::string chunk_prefix(std::size_t bytes);
/// "0\r\n", the trailers, "\r\n".
std::string chunk_end(const std::vector<Header>& trailers);

}  // namespace tunnel
