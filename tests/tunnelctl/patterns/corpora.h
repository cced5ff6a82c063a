#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/patterns/miner.h"

/// Small logs of several programs, beside this file in corpora/: <name>.log, and what they come to,
/// <name>.patterns.
namespace corpora {

inline std::filesystem::path folder() {
  return std::filesystem::path(__FILE__).parent_path() / "corpora";
}

inline std::string file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(folder()))
    if (entry.path().extension() == ".log") all.push_back(entry.path().stem().string());
  std::sort(all.begin(), all.end());
  return all;
}

inline std::vector<std::string> lines(const std::string& name) {
  std::vector<std::string> all;
  std::istringstream text(file(folder() / (name + ".log")));
  for (std::string line; std::getline(text, line);) all.push_back(line);
  return all;
}

inline tunnelctl::patterns::Mined mine(const std::vector<std::string>& lines, std::size_t times = 1,
                                       tunnelctl::patterns::MinerOptions options = {}) {
  tunnelctl::patterns::Miner miner(options);
  for (std::size_t i = 0; i < times; ++i)
    for (const auto& line : lines) miner.add({.line = line});
  return miner.result();
}

/// A line for each pattern: count, level, text.
inline std::string table(const tunnelctl::patterns::Mined& mined) {
  std::ostringstream out;
  for (const auto& pattern : mined.patterns)
    out << pattern.count << ' ' << (pattern.level.empty() ? "-" : pattern.level) << ' ' << pattern.text
        << '\n';
  return out.str();
}

inline std::uint64_t counted(const tunnelctl::patterns::Mined& mined) {
  std::uint64_t all = mined.empty + mined.given_up;
  for (const auto& pattern : mined.patterns) all += pattern.count;
  return all;
}

}  // namespace corpora
