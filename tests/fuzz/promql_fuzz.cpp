// PromQL as a stranger writes it: nothing crashes, and what was accepted is printed to a text that means the
// same.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/lint.h"
#include "tunnelctl/promql/parser.h"
#include "tunnelctl/promql/variables.h"

using namespace tunnelctl::promql;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void require_spans(const Ast& ast, const Node& node) {
  require(node.span.begin < node.span.end && node.span.end <= ast.text.size());
  for (const Node* child : children(node)) {
    require(node.span.begin <= child->span.begin && child->span.end <= node.span.end);
    require_spans(ast, *child);
  }
}

}  // namespace

/// The first byte chooses whether experiments are accepted.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const ParseOptions options{.experimental = data[0] % 2 == 1};

  const Variables variables = {{"a", {{"x", "y.z"}, "", true}}, {"__rate_interval", {{"1m"}, "", false}}};
  const auto expansion = expand(text, variables);
  require(expansion.undefined.size() <= variables_used(text).size());

  const auto ast = parse(expansion.text, options);
  if (!ast) {
    require(ast.error().message.find("parse error: ") != std::string::npos);
    return 0;
  }
  require_spans(*ast, *ast->root);
  const auto printed = print(*ast->root);
  const auto again = parse(printed, options);
  require(again.has_value());
  require(print(*again->root) == printed);
  require(again->root->type == ast->root->type);

  const Contract contract(
      {{"up_total", ContractMetric::Type::counter, {"a"}}, {"h", ContractMetric::Type::histogram, {}}},
      {"r"});
  for (const auto& finding : lint(*ast, {&contract, std::chrono::seconds{15}, false}))
    require(finding.span.end <= ast->text.size());
  for (const auto& finding : check_contract(*ast, contract)) require(finding.span.end <= ast->text.size());
  require(facts(*ast->root).selectors.size() == facts(*again->root).selectors.size());
  if (const auto split = split_comparison(*ast)) require(parse(split->inner, options).has_value());
  return 0;
}
