#include <algorithm>
#include <array>
#include <cctype>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/lint/shape.h"
#include "tunnelctl/promql/text.h"

namespace tunnelctl::lint {
namespace {

/// Words of Go's templates and functions of Prometheus'.
/// Source: https://prometheus.io/docs/prometheus/latest/configuration/template_reference/
constexpr std::array<std::string_view, 63> kKnown{"and",
                                                  "args",
                                                  "block",
                                                  "break",
                                                  "call",
                                                  "continue",
                                                  "define",
                                                  "else",
                                                  "end",
                                                  "eq",
                                                  "externalURL",
                                                  "false",
                                                  "first",
                                                  "ge",
                                                  "graphLink",
                                                  "gt",
                                                  "html",
                                                  "humanize",
                                                  "humanize1024",
                                                  "humanizeDuration",
                                                  "humanizePercentage",
                                                  "humanizeTimestamp",
                                                  "if",
                                                  "index",
                                                  "js",
                                                  "label",
                                                  "le",
                                                  "len",
                                                  "lt",
                                                  "match",
                                                  "ne",
                                                  "nil",
                                                  "not",
                                                  "now",
                                                  "or",
                                                  "parseDuration",
                                                  "parseDurationTime",
                                                  "pathPrefix",
                                                  "print",
                                                  "printf",
                                                  "println",
                                                  "query",
                                                  "range",
                                                  "reReplaceAll",
                                                  "safeHtml",
                                                  "slice",
                                                  "sortByLabel",
                                                  "stripDomain",
                                                  "stripPort",
                                                  "strvalue",
                                                  "tableLink",
                                                  "template",
                                                  "title",
                                                  "tmpl",
                                                  "toDuration",
                                                  "toLower",
                                                  "toTime",
                                                  "toUpper",
                                                  "true",
                                                  "urlQueryEscape",
                                                  "urlquery",
                                                  "value",
                                                  "with"};

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

struct Action {
  std::vector<std::string> functions;  // bare words
  std::vector<std::string> variables;  // with dollar or dot and fields: "$labels.job"
};

/// The words of one `{{ … }}`, strings left out.
Action read_action(std::string_view text) {
  Action result;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '"' || c == '`') {
      const auto end = promql::scan_string(text, i);
      i = end ? *end : text.size();
    } else if (text.substr(i).starts_with("/*")) {
      const auto end = text.find("*/", i);
      i = end == std::string_view::npos ? text.size() : end + 2;
    } else if (c == '$' || c == '.') {
      std::size_t end = i + 1;
      while (end < text.size() && (is_word(text[end]) || text[end] == '.')) ++end;
      result.variables.emplace_back(text.substr(i, end - i));
      i = end;
    } else if (std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_') {
      std::size_t end = i;
      while (end < text.size() && is_word(text[end])) ++end;
      result.functions.emplace_back(text.substr(i, end - i));
      i = end;
    } else if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
      while (i < text.size() && (is_word(text[i]) || text[i] == '.')) ++i;
    } else {
      ++i;
    }
  }
  return result;
}

/// What stands between `{{` and `}}`; nullopt when they do not pair.
std::optional<std::vector<Action>> actions_of(std::string_view text) {
  std::vector<Action> result;
  for (std::size_t at = 0;;) {
    const auto open = text.find("{{", at);
    const auto stray = text.find("}}", at);
    if (stray != std::string_view::npos && stray < open) return std::nullopt;
    if (open == std::string_view::npos) return result;
    const auto close = text.find("}}", open);
    if (close == std::string_view::npos) return std::nullopt;
    const auto inner = text.substr(open + 2, close - open - 2);
    if (inner.find("{{") != std::string_view::npos) return std::nullopt;
    result.push_back(read_action(inner));
    at = close + 2;
  }
}

}  // namespace

void lint_templates(Context& context, const pack::Rule& rule, const promql::Ast& ast) {
  const auto add = [&](const char* check, std::string message) {
    context.report.add(check, rule.place, "rule/" + rule.name(), std::move(message));
  };
  const Labels kept = labels_of(*ast.root);
  const auto judge = [&](const std::string& what, const std::string& text, bool label) {
    const auto actions = actions_of(text);
    if (!actions) return add("alert-template", what + ": {{ and }} do not pair");
    for (const auto& action : *actions) {
      for (const auto& name : action.functions)
        if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end())
          add("alert-template", what + ": there is no template function \"" + name + "\"");
      for (const auto& name : action.variables) {
        const bool value = name == "$value" || name == ".Value";
        if (value && label)
          add("alert-label-value", what + " holds the value: each change ends one alert and begins another");
        for (const std::string_view prefix : {"$labels.", ".Labels."}) {
          if (!name.starts_with(prefix)) continue;
          const std::string wanted = name.substr(prefix.size());
          // The rule's own labels are added after its templates are expanded.
          if (!kept.may_have(wanted))
            add("alert-template-label",
                what + ": the expression's result has no label " + wanted + ", so that nothing stands there");
        }
      }
    }
  };
  for (const auto& [name, text] : rule.labels) judge("label " + name, text, true);
  for (const auto& [name, text] : rule.annotations) judge("annotation " + name, text, false);
}

}  // namespace tunnelctl::lint
