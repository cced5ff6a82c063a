#include "tunnelctl/commands/log_lines.h"

#include <algorithm>
#include <cctype>

#include <CLI/CLI.hpp>

#include "tunnelctl/patterns/secret_names.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return text;
}

/// As the log says it, or as Loki found it (detected_level); "" when nobody knows.
std::string level_of(const prometheus::LogLine& line) {
  for (const char* name : {"level", "severity", "lvl", "detected_level"})
    if (const auto* level = line.label(name); level != nullptr && *level != "unknown") return lower(*level);
  return {};
}

terminal::Colour colour_of(std::string_view level) {
  using terminal::Colour;
  if (level.starts_with("err") || level.starts_with("crit") || level.starts_with("fatal") ||
      level.starts_with("emerg") || level.starts_with("alert") || level.starts_with("panic"))
    return Colour::red;
  if (level.starts_with("warn")) return Colour::yellow;
  if (level.starts_with("debug") || level.starts_with("dbg") || level.starts_with("trace") ||
      level.starts_with("trc"))
    return Colour::grey;
  return Colour::none;
}

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void add_line_options(CLI::App& verb, LineOptions& options) {
  verb.add_flag("--labels", options.labels, "show each line's labels too");
  verb.add_flag("--raw", options.raw, "show lines as they are, with the secrets that may stand in them");
  verb.add_flag("--redact-addresses", options.redact_addresses, "hide IP addresses too");
}

std::string exact_time(prometheus::Instant instant) {
  const auto second = std::chrono::floor<std::chrono::seconds>(instant);
  auto text = times::text(second);
  auto part = std::to_string((instant - second).count());
  part.insert(0, 9 - part.size(), '0');
  return text.substr(0, text.find_first_of(".Z", text.find('T'))) + "." + part + "Z";
}

std::string LinePrinter::shown(std::string_view text) const {
  return options_.raw ? std::string(text) : redaction_.apply(text);
}

std::string LinePrinter::value(std::string_view name, const std::string& value) const {
  // What Loki appends to a label that its parsers found when the stream has one of that name.
  if (constexpr std::string_view kFound = "_extracted"; name.ends_with(kFound))
    name.remove_suffix(kFound.size());
  const auto secret = patterns::secret_named(name);
  if (options_.raw || value.empty() || secret == patterns::Secret::none) return shown(value);
  return "[redacted " + std::string(patterns::to_string(secret)) + "]";
}

nlohmann::json LinePrinter::shown(const prometheus::Texts& texts) const {
  auto result = nlohmann::json::object();
  for (const auto& [name, value] : texts) result[name] = this->value(name, value);
  return result;
}

std::string LinePrinter::text(const prometheus::LogLine& line) const {
  using terminal::Colour;
  auto level = terminal::harmless(level_of(line));
  const auto colour = colour_of(level);
  if (level.size() < 5) level.resize(5, ' ');
  std::string result = terminal::paint(times::text(std::chrono::floor<std::chrono::milliseconds>(line.at)),
                                       Colour::grey, coloured_) +
                       "  " + terminal::paint(level, colour, coloured_) + "  ";
  if (options_.labels) {
    std::string labels;
    for (const prometheus::Texts* texts : {line.stream.get(), &line.metadata, &line.parsed})
      for (const auto& [name, value] : *texts)
        labels += (labels.empty() ? "" : ", ") + name + "=" + quoted(this->value(name, value));
    result += terminal::paint("{" + terminal::harmless(labels) + "}", Colour::grey, coloured_) + "  ";
  }
  return result + terminal::harmless(shown(line.text));
}

nlohmann::json LinePrinter::json(const prometheus::LogLine& line) const {
  return {{"time", exact_time(line.at)},      {"level", level_of(line)},
          {"line", shown(line.text)},         {"labels", shown(*line.stream)},
          {"metadata", shown(line.metadata)}, {"parsed", shown(line.parsed)}};
}

}  // namespace tunnelctl
