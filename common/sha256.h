#pragma once

#include <array>
#include <string>
#include <string_view>

using Sha256 = std::array<unsigned char, 32>;

/// SHA-256 of `bytes` (FIPS 180-4). Any thread; each keeps one context, so a call costs the hash and little
/// else (OpenSSL 3's one-shot SHA256() looks the algorithm up by name every time).
Sha256 sha256(std::string_view bytes);

/// 64 lower-case hexadecimal digits.
std::string to_hex(const Sha256& digest);
