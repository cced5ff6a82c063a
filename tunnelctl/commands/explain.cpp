#include "tunnelctl/commands/explain.h"

#include <algorithm>
#include <cctype>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include "tunnelctl/commands/groups.h"

namespace tunnelctl {
namespace {

std::string upper(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return result;
}

/// Unknown codes come from a terminal or a script: what is echoed must stay one harmless line.
std::string printable(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 40)) result += (c > ' ' && c < 0x7f) ? c : '?';
  return result;
}

}  // namespace

Result<void> explain(const Explain& options, std::span<const ErrorPage> pages, std::ostream& out) {
  const std::string code = upper(options.code);
  const auto page =
      std::find_if(pages.begin(), pages.end(), [&](const ErrorPage& p) { return p.code == code; });
  if (page == pages.end()) {
    std::string message = "no error has the code \"" + printable(options.code) + "\"; known:";
    for (const auto& known : pages) message.append(" ").append(known.code);
    if (pages.empty()) message += " none in this build";
    return fail(Error::Kind::bad_input, std::move(message));
  }
  out << page->text;
  if (!page->text.ends_with('\n')) out << '\n';
  return {};
}

void add_explain(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Explain>();
  auto* command = app.add_subcommand("explain", "Says what an error code means and what to do about it");
  command->add_option("CODE", options->code, "the code, e.g. TUNNEL_015")->required();
  command->footer("Examples:\n  tunnelctl explain TUNNEL_015\n  tunnelctl explain tunnel_002");
  command->callback([options, &chosen] {
    chosen.run = [options](Session& session) -> Result<ExitStatus> {
      auto done = explain(*options, error_pages(), session.out);
      if (!done) return tl::unexpected(done.error());
      return ExitStatus::ok;
    };
  });
}

}  // namespace tunnelctl
