#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

/// Writes YAML that people can read and that YAML 1.1 and 1.2 parsers understand alike: Grafana, Prometheus
/// and Kubernetes use different ones. Our own writer, because a library's layout changes with its version,
/// and what is rendered is kept under version control.
namespace tunnelctl::render {

using Json = nlohmann::json;

/// One document. Keys come in a fixed order: those that name a thing first, its parts last, the rest by the
/// alphabet. Text of several lines becomes a literal block. The same value always gives the same text.
std::string yaml(const Json& value);

/// Documents one after another, under a comment (without "# ") at the top.
std::string yaml_file(const std::string& comment, const std::vector<Json>& documents);

}  // namespace tunnelctl::render
