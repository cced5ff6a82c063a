#pragma once

#include <string>
#include <string_view>
#include <vector>

/// Heads that must be refused, as a table: what other readers have been tricked with, and every place
/// where the grammar has one right form. `reason` empty means the head must be accepted.
namespace corpus {

struct Case {
  std::string name;
  std::string head;
  std::string reason;
  unsigned status = 400;
};

/// A byte in a name: "\r" as "CR", others in hex.
inline std::string show(char byte) {
  static constexpr char kHex[] = "0123456789abcdef";
  const auto value = static_cast<unsigned char>(byte);
  return {'x', kHex[value >> 4], kHex[value & 15]};
}

inline std::string with_fields(std::string_view fields) {
  return std::string("GET / HTTP/1.1\r\nHost: a\r\n").append(fields).append("\r\n");
}

inline void add_request_lines(std::vector<Case>& cases) {
  const auto add = [&cases](std::string line, std::string reason, unsigned status = 400) {
    cases.push_back({"request line: " + line, line + "\r\nHost: a\r\n\r\n", std::move(reason), status});
  };
  for (const char* method : {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
    add(std::string(method) + " / HTTP/1.1", "", 0);
  for (const char* method : {"CONNECT", "TRACE"})
    for (const char* target : {"/", "a:443", "*"})
      add(std::string(method) + " " + target + " HTTP/1.1", "method_refused", 405);
  for (const char* method : {"get", "Get", "GETS", "PRI", "PROPFIND", "G", "!#$%&'*+-.^_`|~"})
    add(std::string(method) + " / HTTP/1.1", "method_unknown", 501);
  for (const char* line : {"",
                           " ",
                           "GET",
                           "GET ",
                           "GET /",
                           "GET / ",
                           "GET /  HTTP/1.1",
                           "GET  / HTTP/1.1",
                           " GET / HTTP/1.1",
                           "GET / HTTP/1.1 ",
                           "GET / HTTP/1.1 x",
                           "GET\t/ HTTP/1.1",
                           "GET /\tHTTP/1.1",
                           "GET / \tHTTP/1.1",
                           "GET  HTTP/1.1",
                           "GET / x HTTP/1.1",
                           "GET / HTTP/1.1\t",
                           "G(T / HTTP/1.1",
                           "\"GET\" / HTTP/1.1",
                           "GET: / HTTP/1.1"})
    add(line, "start_line");
  for (const char* version :
       {"HTTP/1",    "HTTP/1.",   "HTTP/11",   "HTTP/1.10", "HTTP/01.1", "http/1.1",        "Http/1.1",
        "HTTPS/1.1", "HTTP /1.1", "HTTP/ 1.1", "HTTP/1 .1", "HTTP/a.b",  "HTTP/1,1",        "1.1",
        "/1.1",      "HTTP/+1.1", "HTTP/-1.1", "HTTP//1.1", "SSH-2.0",   "HTTP/1.1HTTP/1.1"})
    add(std::string("GET / ") + version, "start_line");
  for (const char* version :
       {"HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0", "HTTP/0.0", "HTTP/9.9"})
    add(std::string("GET / ") + version, "version", 505);
  for (const char* target : {"*", "http://a/", "HTTP://a/", "https://a/x", "a", "a/b", "a:80", "?x", "\\",
                             "\\x", ".", "//", "/a//b", "/%", "/%zz", "/a?b?c", "/[]{}|^`\"<>"}) {
    const bool fine = target[0] == '/';
    add(std::string("GET ") + target + " HTTP/1.1", fine ? "" : "target_form", fine ? 0 : 400);
  }
  for (const char* target :
       {"/#", "/a#b", "/\x7f", "/\x80", "/caf\xc3\xa9", "/\x01", "/\x0b", "/\x0c", "/\x1f"})
    add(std::string("GET ") + target + " HTTP/1.1", "target");
}

inline void add_bytes(std::vector<Case>& cases) {
  // Every control character in every part of the head.
  for (int value = 0; value < 0x100; ++value) {
    const char byte = static_cast<char>(value);
    const bool control = (value < 0x20 && byte != '\t' && byte != '\n') || value == 0x7f;
    if (!control) continue;
    const std::string reason = byte == '\r' ? "bare_cr" : byte == '\0' ? "nul" : "control_character";
    cases.push_back({show(byte) + " in a value", with_fields(std::string("X: a") + byte + "b\r\n"), reason});
    cases.push_back({show(byte) + " in a name", with_fields(std::string("X") + byte + "Y: a\r\n"), reason});
    cases.push_back(
        {show(byte) + " before the colon", with_fields(std::string("X") + byte + ": a\r\n"), reason});
    cases.push_back(
        {show(byte) + " ending a value", with_fields(std::string("X: a") + byte + "\r\n"), reason});
  }
  for (const char byte : std::string_view("()<>@,;\\\"/[]?={}")) {
    cases.push_back(
        {show(byte) + " in a name", with_fields(std::string("X") + byte + "Y: a\r\n"), "field_name"});
    cases.push_back(
        {show(byte) + " begins a name", with_fields(std::string(1, byte) + "X: a\r\n"), "field_name"});
  }
  for (const char* name : {"X\x80", "X\xff", "\xe2\x80\x8b"})
    cases.push_back({"non-ASCII name", with_fields(std::string(name) + ": a\r\n"), "field_name"});
  cases.push_back({"obs-text in a value", with_fields("X: caf\xc3\xa9 \xff\r\n"), ""});
  cases.push_back({"tab in a value", with_fields("X: a\tb\r\n"), ""});
  cases.push_back({"empty value", with_fields("X:\r\nY: \t \r\n"), ""});
  cases.push_back({"every token character in a name", with_fields("!#$%&'*+-.^_`|~09azAZ: 1\r\n"), ""});
}

inline void add_line_ends(std::vector<Case>& cases) {
  const std::string good = "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n";
  // Each CR of the head left out, and each doubled.
  for (std::size_t at = 0; at < good.size(); ++at) {
    if (good[at] != '\r') continue;
    auto without = good;
    without.erase(at, 1);
    cases.push_back({"no CR at " + std::to_string(at), without, "bare_lf"});
  }
  cases.push_back({"LF only", "GET / HTTP/1.1\nHost: a\n\n", "bare_lf"});
  cases.push_back({"LF CR", "GET / HTTP/1.1\n\rHost: a\n\r\n\r", "bare_lf"});
  cases.push_back({"CR CR LF after a field", with_fields("X: b\r\r\n"), "bare_cr"});
  cases.push_back({"CR as line end", with_fields("X: b\rY: c\r\n"), "bare_cr"});
  cases.push_back({"CR hides a length", with_fields("X: b\rContent-Length: 5\r\n"), "bare_cr"});
  cases.push_back({"no end", "GET / HTTP/1.1\r\nHost: a\r\n", "incomplete"});
  cases.push_back({"empty", "", "incomplete"});
  cases.push_back({"leading empty line", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "start_line"});
  cases.push_back({"bytes after the head", good + "GET", "bytes_after_head"});
  for (const char* fold : {" ", "\t", "  x", "\tContent-Length: 5", " : a", " Transfer-Encoding: chunked"}) {
    cases.push_back(
        {std::string("fold: ") + fold, with_fields(std::string("X: a\r\n") + fold + "\r\n"), "obs_fold"});
    cases.push_back({std::string("fold after the request line: ") + fold,
                     std::string("GET / HTTP/1.1\r\n") + fold + "\r\nHost: a\r\n\r\n", "obs_fold"});
  }
  for (const char* line : {"X", "X Y", "X ", "Content-Length", "X\t"})
    cases.push_back(
        {std::string("no colon: ") + line, with_fields(std::string(line) + "\r\n"),
         std::string_view(line).find_first_of(" \t") == std::string_view::npos ? "no_colon" : "field_name"});
  cases.push_back({"nothing before the colon", with_fields(": a\r\n"), "field_name"});
  for (const char* name : {"X", "Host", "Content-Length", "Transfer-Encoding", "Connection"})
    for (const char* gap : {" ", "\t", "  ", " \t "})
      cases.push_back({std::string(name) + " with space before the colon",
                       with_fields(std::string(name) + gap + ": 1\r\n"), "space_before_colon"});
}

inline void add_lengths(std::vector<Case>& cases) {
  const auto length = [&cases](std::string value, std::string reason) {
    cases.push_back(
        {"Content-Length: " + value, with_fields("Content-Length: " + value + "\r\n"), std::move(reason)});
  };
  for (const char* value : {"0", "5", "  5 \t", "9223372036854775807", "005"}) length(value, "");
  for (const char* value : {"",
                            "+5",
                            "-5",
                            "-0",
                            "0x5",
                            "5,5",
                            "5, 5",
                            "5;",
                            "5 5",
                            "5.0",
                            "1e3",
                            "five",
                            "\"5\"",
                            "5a",
                            "a5",
                            "0b1",
                            "9223372036854775808",
                            "18446744073709551615",
                            "18446744073709551616",
                            "99999999999999999999999",
                            "00000000000000000005",
                            "\xc2\xb2",
                            "5\t5",
                            "_5",
                            "5_0",
                            "'5'",
                            "NaN",
                            "Infinity",
                            "5%",
                            "%35"})
    length(value, "content_length");
  // Every pair of fields that frames the body twice, in either order, whatever the letters' case.
  const char* lengths[] = {"Content-Length: 5", "content-length: 5", "CONTENT-LENGTH:5", "Content-Length: 6"};
  const char* codings[] = {"Transfer-Encoding: chunked", "transfer-encoding: chunked",
                           "TRANSFER-ENCODING:chunked", "Transfer-Encoding: \tchunked"};
  for (const char* one : lengths)
    for (const char* other : lengths)
      cases.push_back({std::string(one) + " + " + other,
                       with_fields(std::string(one) + "\r\n" + other + "\r\n"), "duplicate_content_length"});
  for (const char* one : lengths)
    for (const char* other : codings) {
      cases.push_back({std::string(one) + " + " + other,
                       with_fields(std::string(one) + "\r\n" + other + "\r\n"),
                       "length_and_transfer_encoding"});
      cases.push_back({std::string(other) + " + " + one,
                       with_fields(std::string(other) + "\r\n" + one + "\r\n"),
                       "length_and_transfer_encoding"});
    }
  for (const char* one : codings)
    for (const char* other : codings)
      cases.push_back({std::string(one) + " + " + other,
                       with_fields(std::string(one) + "\r\n" + other + "\r\n"), "transfer_encoding"});
  for (const char* value : {"",
                            "identity",
                            "gzip",
                            "gzip, chunked",
                            "chunked, gzip",
                            "chunked, chunked",
                            "chunked,",
                            ",chunked",
                            "chunked;q=1",
                            "xchunked",
                            "chunkedx",
                            "chunk",
                            "\"chunked\"",
                            "'chunked'",
                            "chunked identity",
                            "c hunked",
                            "chunked\t, ",
                            "deflate",
                            "compress",
                            "trailers",
                            "x",
                            "\xe2\x84\xaahunked",
                            "chunked;",
                            "chunked \t;a=b",
                            "cow",
                            "identity, chunked"}) {
    cases.push_back({std::string("Transfer-Encoding: ") + value,
                     with_fields(std::string("Transfer-Encoding: ") + value + "\r\n"), "transfer_encoding"});
    // With a length beside it the head is refused whichever of the two is looked at first.
    cases.push_back({std::string("length and Transfer-Encoding: ") + value,
                     with_fields(std::string("Transfer-Encoding: ") + value + "\r\nContent-Length: 3\r\n"),
                     "transfer_encoding"});
  }
  for (const char* value : {"chunked", "Chunked", "CHUNKED", " chunked\t"})
    cases.push_back({std::string("Transfer-Encoding: ") + value,
                     with_fields(std::string("Transfer-Encoding: ") + value + "\r\n"), ""});
  for (const char* value : {"chunked", "gzip", ""})
    cases.push_back({std::string("HTTP/1.0 with Transfer-Encoding: ") + value,
                     std::string("POST / HTTP/1.0\r\nTransfer-Encoding: ") + value + "\r\n\r\n",
                     "transfer_encoding_in_1_0"});
}

inline void add_hosts(std::vector<Case>& cases) {
  const auto host = [&cases](std::string value, bool fine) {
    cases.push_back({"Host: " + value, "GET / HTTP/1.1\r\nHost: " + value + "\r\n\r\n", fine ? "" : "host"});
  };
  for (const char* value : {"a", "a.b", "A-b_c.example", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8080",
                            "[fe80::1:2]", "a:0", "a:65535"})
    host(value, true);
  for (const char* value :
       {"",        "a b",     "a,b",      "a, b", "a/b",    "http://a", "a@b",     "user:pw@a",   "a:",
        "a:65536", "a:99999", "a:123456", "a:-1", "a:+1",   "a:8o",     "a:80:80", "a:80/",       "a:80 ",
        "[",       "[]",      "]",        "[::1", "::1",    "[::1]x",   "[::1]:",  "[g::]",       ":80",
        "a%00",    "a%2fb",   "a?b",      "a#b",  "a\\b",   "<a>",      "\"a\"",   "caf\xc3\xa9", "a;b",
        "a'b",     "(a)",     "*",        "a&b",  "[::1]80"})
    host(value, std::string_view(value) == "a:80 ");
  host(std::string(300, 'a'), false);
  cases.push_back({"no Host", "GET / HTTP/1.1\r\n\r\n", "host_missing"});
  cases.push_back({"no Host in 1.0", "GET / HTTP/1.0\r\n\r\n", ""});
  for (const char* second : {"Host: a", "host: a", "HOST: b", "Host:"})
    for (const char* version : {"1.0", "1.1"})
      cases.push_back({std::string("two hosts, ") + version,
                       std::string("GET / HTTP/") + version + "\r\nHost: a\r\n" + second + "\r\n\r\n",
                       "duplicate_host"});
}

inline void add_connection(std::vector<Case>& cases) {
  for (const char* value :
       {"close", "keep-alive", "Close", "close, x-foo", ",close,,", "", "upgrade, keep-alive"})
    cases.push_back(
        {std::string("Connection: ") + value, with_fields(std::string("Connection: ") + value + "\r\n"), ""});
  for (const char* value : {"content-length", "close, Content-Length", "Transfer-Encoding", "HOST",
                            "keep alive", "a;b", "\"close\"", "close;x", "a@b", "x, host", "caf\xc3\xa9"})
    cases.push_back({std::string("Connection: ") + value,
                     with_fields(std::string("Connection: ") + value + "\r\n"), "connection_option"});
  for (const char* value : {"100-continue", "100-Continue"})
    cases.push_back(
        {std::string("Expect: ") + value, with_fields(std::string("Expect: ") + value + "\r\n"), ""});
  for (const char* value : {"", "100", "200-ok", "100-continue, x", "100-continue; a", "continue", "x=y"})
    cases.push_back({std::string("Expect: ") + value, with_fields(std::string("Expect: ") + value + "\r\n"),
                     "expectation", 417});
  cases.push_back(
      {"two Expects", with_fields("Expect: 100-continue\r\nExpect: 100-continue\r\n"), "expectation", 417});
}

inline void add_sizes(std::vector<Case>& cases) {
  const auto target = [](std::size_t size) {
    return "GET /" + std::string(size, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n";
  };
  cases.push_back({"longest request line", target(8192 - 14), ""});
  cases.push_back({"request line one byte too long", target(8192 - 13), "request_line_size", 414});
  cases.push_back({"request line far too long", target(100'000), "request_line_size", 414});
  cases.push_back({"longest field", with_fields("X: " + std::string(8192 - 3, 'a') + "\r\n"), ""});
  cases.push_back({"field one byte too long", with_fields("X: " + std::string(8192 - 2, 'a') + "\r\n"),
                   "header_size", 431});
  cases.push_back({"long name", with_fields(std::string(8192, 'a') + ":\r\n"), "header_size", 431});
  std::string fields;
  for (int count = 0; count < 99; ++count) fields += "X: a\r\n";
  cases.push_back({"100 fields", with_fields(fields), ""});
  cases.push_back({"101 fields", with_fields(fields + "X: a\r\n"), "header_count", 431});
  std::string large;
  for (int count = 0; count < 5; ++count) large += "X: " + std::string(8000, 'a') + "\r\n";
  cases.push_back({"40 KB of fields", with_fields(large), "header_size", 431});
}

inline std::vector<Case> requests() {
  std::vector<Case> cases;
  add_request_lines(cases);
  add_bytes(cases);
  add_line_ends(cases);
  add_lengths(cases);
  add_hosts(cases);
  add_connection(cases);
  add_sizes(cases);
  return cases;
}

}  // namespace corpus
