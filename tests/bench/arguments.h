#pragma once

#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "endpoint.h"

namespace bench {

/// `--name value`, `--flag` and plain words of a command line. Each must be asked for: what nobody
/// asked for is an error in finish().
class Arguments {
 public:
  Arguments(int argc, char** argv, const std::set<std::string>& flags) {
    for (int i = 0; i < argc; ++i) {
      const std::string word = argv[i];
      if (!word.starts_with("--"))
        words_.push_back(word);
      else if (flags.contains(word.substr(2)))
        options_[word.substr(2)] = "yes";
      else if (i + 1 < argc)
        options_[word.substr(2)] = argv[++i];
      else
        throw std::invalid_argument(word + " needs a value");
    }
  }

  bool flag(const std::string& name) { return options_.erase(name) > 0; }
  std::string text(const std::string& name, const std::string& otherwise = {}) {
    const auto found = options_.extract(name);
    return found ? found.mapped() : otherwise;
  }
  std::string needed(const std::string& name) {
    const auto value = text(name);
    if (value.empty()) throw std::invalid_argument("--" + name + " is needed");
    return value;
  }
  unsigned long long number(const std::string& name, unsigned long long otherwise) {
    const auto value = text(name);
    if (value.empty()) return otherwise;
    std::size_t used = 0;
    const auto parsed = std::stoull(value, &used);
    if (used != value.size()) throw std::invalid_argument("--" + name + " is not a number: " + value);
    return parsed;
  }
  Endpoint endpoint(const std::string& name) { return parse_endpoint(needed(name)); }
  /// --token-file FILE or --token-env NAME (never the token itself: argv is public), --ca-file FILE.
  Credentials credentials() {
    Credentials found;
    if (const auto file = text("token-file"); !file.empty()) {
      std::ifstream in(file);
      if (!std::getline(in, found.token)) throw std::invalid_argument("no token in " + file);
    } else if (const auto name = text("token-env"); !name.empty()) {
      const char* value = std::getenv(name.c_str());
      if (!value) throw std::invalid_argument("environment variable " + name + " is not set");
      found.token = value;
    }
    found.ca_file = text("ca-file");
    found.resume = !flag("no-resume");
    return found;
  }
  const std::vector<std::string>& words() const { return words_; }
  void finish() const {
    if (!options_.empty()) throw std::invalid_argument("unknown option --" + options_.begin()->first);
  }

 private:
  std::map<std::string, std::string> options_;
  std::vector<std::string> words_;
};

}  // namespace bench
