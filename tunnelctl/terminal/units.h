#pragma once

#include <cstdint>
#include <string>

/// Numbers for people.
namespace tunnelctl::terminal {

/// "512 B", "1.5 KiB", "12 MiB".
std::string bytes(double value);
/// The two largest units: "42s", "3m 20s", "5h 1m", "12d 3h".
std::string duration(double seconds);
/// "0", "0.25", "7.5", "120", "12.3k", "4.5M".
std::string number(double value);
/// Of a ratio: "100 %", "99.95 %", "0 %". Never rounds up to 100.
std::string percent(double ratio);

}  // namespace tunnelctl::terminal
