#pragma once

#include <cstddef>
#include <string_view>

/// Things that log lines hold and that differ from line to line, told by their form. Each function says how
/// many bytes from `at` on are such a thing, 0 when there is none; what stands before is the caller's matter,
/// what follows may not go on with the word. None looks further than kLongestShape bytes, so asking at every
/// word of a text is linear.
namespace tunnelctl::patterns {

inline constexpr std::size_t kLongestShape = 100;

/// "6f9619ff-8b86-d011-b42d-00cf4fc964ff".
std::size_t uuid_at(std::string_view text, std::size_t at);
/// "192.0.2.7", "192.0.2.0/24"; not a piece of a longer dotted number.
std::size_t ipv4_at(std::string_view text, std::size_t at);
/// "2001:db8::1", "::1", "::ffff:192.0.2.7", "fe80::1%eth0", "2001:db8::/32"; at least two colons.
std::size_t ipv6_at(std::string_view text, std::size_t at);
/// "52:54:00:12:34:56", and longer ones, as netfilter and fingerprints have them.
std::size_t mac_at(std::string_view text, std::size_t at);
/// Points in time as programs write them: RFC 3339 and its kin, dates alone, "15:04:05.000", "Jan  2
/// 15:04:05", "Mon Jan  2 15:04:05 2006", "02/Jan/2006:15:04:05 +0000", "Mon, 02 Jan 2006 15:04:05 GMT".
std::size_t time_at(std::string_view text, std::size_t at);
/// "12", "1.5", "1,234", "3e-5", "12ms", "1h2m3.5s", "4KiB", "45%".
std::size_t number_at(std::string_view text, std::size_t at);
/// The host part of an e-mail address, behind its @; "user@1000.service" of systemd is none. Reads as far as
/// the name goes, so it is for callers that ask at each @.
std::size_t mail_host_at(std::string_view text, std::size_t at);

}  // namespace tunnelctl::patterns
