#include <algorithm>
#include <memory>
#include <ostream>

#include <CLI/CLI.hpp>

#include "build_info.h"
#include "tunnelctl/commands/groups.h"

namespace tunnelctl {
namespace {

struct Reference {
  std::string what{};
};

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* one) { return !one->get_name().empty(); });
}

std::vector<const CLI::Option*> options_of(const CLI::App& app) {
  auto all = app.get_options([](const CLI::Option* one) { return one->nonpositional(); });
  return {all.begin(), all.end()};
}

std::vector<const CLI::Option*> arguments_of(const CLI::App& app) {
  auto all = app.get_options([](const CLI::Option* one) { return one->get_positional(); });
  return {all.begin(), all.end()};
}

std::string names(const CLI::Option& option) {
  std::string result;
  for (const auto& one : option.get_snames()) result += (result.empty() ? "-" : ", -") + one;
  for (const auto& one : option.get_lnames()) result += (result.empty() ? "--" : ", --") + one;
  return result;
}

bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

/// The words a value may be: CLI11 keeps them only as "{a,b}" in the name of the type.
std::vector<std::string> words(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const auto open = type.find('{');
  const auto close = type.find('}', open);
  std::vector<std::string> result;
  std::string list;
  if (open != std::string::npos && close != std::string::npos)
    list = type.substr(open + 1, close - open - 1);
  else if (type.find('|') != std::string::npos)
    list = type;
  std::string word;
  for (const char c : list + ",") {
    if (c == ',' || c == '|') {
      if (!word.empty()) result.push_back(word);
      word.clear();
    } else if (c != ' ') {
      word += c;
    }
  }
  return result;
}

std::string value_name(const CLI::Option& option) {
  if (!takes_value(option)) return {};
  const auto choice = words(option);
  if (choice.empty()) return option.get_type_name();
  std::string result;
  for (const auto& one : choice) result += (result.empty() ? "" : "|") + one;
  return result;
}

std::string usage(const CLI::App& app, const std::string& path) {
  std::string result = path;
  if (!options_of(app).empty()) result += " [OPTIONS]";
  for (const auto* argument : arguments_of(app)) {
    const std::string name = argument->get_name() + (argument->get_items_expected_max() > 1 ? "..." : "");
    result += argument->get_required() ? " " + name : " [" + name + "]";
  }
  if (!commands_of(app).empty()) result += " COMMAND";
  return result;
}

template <class Visit>
void each(const CLI::App& app, const std::string& path, const Visit& visit) {
  visit(app, path);
  for (const auto* one : commands_of(app)) each(*one, path + " " + one->get_name(), visit);
}

// --- Markdown -------------------------------------------------------------------------------------

void option_lines(const CLI::App& app, std::ostream& out) {
  for (const auto* one : arguments_of(app))
    out << "- `" << one->get_name() << "`: " << one->get_description() << "\n";
  for (const auto* one : options_of(app)) {
    if (one->get_lnames() == std::vector<std::string>{"help"}) continue;
    const std::string value = value_name(*one);
    out << "- `" << names(*one) << (value.empty() ? "" : " " + value) << "`: " << one->get_description();
    if (!one->get_default_str().empty() && takes_value(*one))
      out << " (default " << one->get_default_str() << ")";
    out << "\n";
  }
}

void markdown(const CLI::App& app, std::ostream& out) {
  out << "## Options of every command\n\n";
  option_lines(app, out);
  out << "\n## Exit status\n\n```\n" << app.get_footer().substr(app.get_footer().find('\n') + 1) << "\n```\n";
  each(app, "tunnelctl", [&](const CLI::App& one, const std::string& path) {
    if (&one == &app) return;
    const bool group = !commands_of(one).empty();
    out << "\n" << (group ? "## `" : "### `") << path << "`\n\n" << one.get_description() << ".\n";
    if (group) return;
    out << "\n```\n" << usage(one, path) << "\n```\n\n";
    option_lines(one, out);
    const std::string footer = one.get_footer();
    if (footer.starts_with("Examples:\n"))
      out << "\n```sh\n" << footer.substr(footer.find('\n') + 1) << "\n```\n";
  });
}

// --- man ------------------------------------------------------------------------------------------

std::string roff(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\')
      result += "\\e";
    else if (c == '-')
      result += "\\-";
    else
      result += c;
    if (c == '\n') result += "\\&";  // a dot or quote at the start of a line is a command
  }
  return result;
}

void man_options(const CLI::App& app, std::ostream& out) {
  for (const auto* one : arguments_of(app))
    out << ".TP\n\\fI" << roff(one->get_name()) << "\\fR\n" << roff(one->get_description()) << "\n";
  for (const auto* one : options_of(app)) {
    const std::string value = value_name(*one);
    out << ".TP\n\\fB" << roff(names(*one)) << "\\fR" << (value.empty() ? "" : " \\fI" + roff(value) + "\\fR")
        << "\n"
        << roff(one->get_description()) << "\n";
  }
}

void man(const CLI::App& app, std::ostream& out) {
  out << ".TH TUNNELCTL 1 \"\" \"tunnelctl " << TUNNEL_VERSION
      << "\"\n.SH NAME\ntunnelctl \\- operates tunneld and watches over it\n"
      << ".SH SYNOPSIS\n.B tunnelctl\n[OPTIONS] COMMAND\n.SH OPTIONS OF EVERY COMMAND\n";
  man_options(app, out);
  out << ".SH COMMANDS\n";
  each(app, "tunnelctl", [&](const CLI::App& one, const std::string& path) {
    if (&one == &app || !commands_of(one).empty()) return;
    out << ".SS " << roff(usage(one, path)) << "\n" << roff(one.get_description()) << ".\n";
    man_options(one, out);
    const std::string footer = one.get_footer();
    if (footer.starts_with("Examples:\n"))
      out << ".PP\n.nf\n" << roff(footer.substr(footer.find('\n') + 1)) << "\n.fi\n";
  });
  out << ".SH EXIT STATUS\n.nf\n"
      << roff(app.get_footer().substr(app.get_footer().find('\n') + 1)) << "\n.fi\n"
      << ".SH SEE ALSO\n.BR tunneld (8)\n";
}

// --- Completion -----------------------------------------------------------------------------------

std::string joined(const std::vector<std::string>& words) {
  std::string result;
  for (const auto& one : words) result += (result.empty() ? "" : " ") + one;
  return result;
}

std::vector<std::string> long_names(const CLI::App& app) {
  std::vector<std::string> result;
  for (const auto* one : options_of(app))
    for (const auto& name : one->get_lnames()) result.push_back("--" + name);
  return result;
}

/// One table of "path -> words" and one of "option -> values", looked up by the words typed so far.
void bash(const CLI::App& app, std::ostream& out) {
  out << "# bash completion for tunnelctl; source it, or put it into "
         "/usr/share/bash-completion/completions/tunnelctl\n"
         "_tunnelctl() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} path=tunnelctl word "
         "i\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    word=${COMP_WORDS[i]}\n"
         "    case \"$path $word\" in\n";
  std::string paths;
  each(app, "tunnelctl", [&](const CLI::App& one, const std::string& path) {
    if (&one != &app) paths += (paths.empty() ? "" : "|") + ("'" + path + "'");
  });
  out << "      " << paths << ") path=\"$path $word\" ;;\n    esac\n  done\n  case \"$previous\" in\n";
  std::vector<std::string> seen;
  each(app, "tunnelctl", [&](const CLI::App& one, const std::string&) {
    for (const auto* option : options_of(one)) {
      const auto choice = words(*option);
      const std::string value = value_name(*option);
      for (const auto& name : option->get_lnames()) {
        if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
        if (!choice.empty())
          out << "    --" << name << ") COMPREPLY=($(compgen -W '" << joined(choice)
              << "' -- \"$current\")); return ;;\n";
        else if (value == "FILE" || value == "DIR")
          out << "    --" << name << ") compopt -o default; COMPREPLY=(); return ;;\n";
        else
          continue;
        seen.push_back(name);
      }
    }
  });
  out << "  esac\n  local words\n  case \"$path\" in\n";
  each(app, "tunnelctl", [&](const CLI::App& one, const std::string& path) {
    std::vector<std::string> all;
    for (const auto* command : commands_of(one)) all.push_back(command->get_name());
    for (const auto& name : long_names(one)) all.push_back(name);
    if (&one != &app)
      for (const auto& name : long_names(app)) all.push_back(name);
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    out << "    '" << path << "') words='" << joined(all) << "' ;;\n";
  });
  out << "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "  [[ ${#COMPREPLY[@]} -gt 0 || $current == -* ]] || compopt -o default\n"
         "}\ncomplete -F _tunnelctl tunnelctl\n";
}

void zsh(const CLI::App& app, std::ostream& out) {
  out << "#compdef tunnelctl\n# zsh completion for tunnelctl; put it as _tunnelctl into a folder of $fpath\n"
         "autoload -U +X bashcompinit && bashcompinit\n";
  bash(app, out);
}

void fish(const CLI::App& app, std::ostream& out) {
  out << "# fish completion for tunnelctl; put it into ~/.config/fish/completions/tunnelctl.fish\n"
         "function __tunnelctl_at\n"
         "  set -l words (commandline -opc | string match -v -- '-*')\n"
         "  test \"$words\" = \"$argv\"\n"
         "end\n"
         "complete -c tunnelctl -f\n";
  const auto quoted = [](std::string text) {
    std::string result = "'";
    for (const char c : text) {
      if (c == '\'' || c == '\\') result += '\\';
      result += c;
    }
    return result + "'";
  };
  const auto option_line = [&](const CLI::Option& option, const std::string& condition) {
    if (option.get_lnames().empty()) return;
    out << "complete -c tunnelctl" << condition;
    for (const auto& name : option.get_snames()) out << " -s " << name;
    for (const auto& name : option.get_lnames()) out << " -l " << name;
    const auto choice = words(option);
    if (!choice.empty())
      out << " -x -a " << quoted(joined(choice));
    else if (value_name(option) == "FILE" || value_name(option) == "DIR")
      out << " -r -F";
    else if (takes_value(option))
      out << " -x";
    out << " -d " << quoted(option.get_description()) << "\n";
  };
  for (const auto* one : options_of(app)) option_line(*one, "");
  each(app, "tunnelctl", [&](const CLI::App& one, const std::string& path) {
    for (const auto* command : commands_of(one))
      out << "complete -c tunnelctl -n " << quoted("__tunnelctl_at " + path) << " -a " << command->get_name()
          << " -d " << quoted(command->get_description()) << "\n";
    if (&one != &app)
      for (const auto* option : options_of(one))
        option_line(*option, " -n " + quoted("__tunnelctl_at " + path));
  });
}

Result<ExitStatus> run_reference(const Reference& options, Session& session) {
  CLI::App app{"Operates tunneld and watches over it.", "tunnelctl"};
  Globals globals;
  Chosen chosen;
  build(app, globals, chosen);
  if (options.what == "bash")
    bash(app, session.out);
  else if (options.what == "zsh")
    zsh(app, session.out);
  else if (options.what == "fish")
    fish(app, session.out);
  else if (options.what == "man")
    man(app, session.out);
  else
    markdown(app, session.out);
  return ExitStatus::ok;
}

}  // namespace

void add_reference(CLI::App& app, Chosen& chosen) {
  const auto add = [&](const char* name, const char* help, const char* examples, const std::string& what) {
    auto options = std::make_shared<Reference>();
    auto* command = app.add_subcommand(name, help);
    command->footer(std::string("Examples:\n") + examples);
    options->what = what;
    if (what.empty())
      command->add_option("SHELL", options->what, "bash, zsh or fish")
          ->required()
          ->check(CLI::IsMember({"bash", "zsh", "fish"}))
          ->type_name("bash|zsh|fish");
    command->callback([options, &chosen] {
      chosen.run = [options](Session& session) { return run_reference(*options, session); };
    });
  };
  add("completion", "Prints completion for a shell",
      "  source <(tunnelctl completion bash)\n  tunnelctl completion fish > "
      "~/.config/fish/completions/tunnelctl.fish",
      "");
  add("man", "Prints the manual page", "  tunnelctl man | man -l -\n  tunnelctl man > tunnelctl.1", "man");
  add("reference", "Prints every command as Markdown",
      "  tunnelctl reference > tunnelctl.md\n  tunnelctl reference | less", "markdown");
}

}  // namespace tunnelctl
