#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include <nlohmann/json.hpp>

/// The Model Context Protocol over a pipe: what an assistant says and what it is answered. This room knows
/// the protocol and nothing of what the tools do.
namespace tunnelctl::mcp {

using Json = nlohmann::json;

/// What came of one call.
struct Outcome {
  std::string text{};   // what was asked for; sent as JSON where it is some
  std::string notes{};  // warnings beside it
  bool failed = false;  // then `text` says why, for the assistant to do it better
};

/// What a tool does to the world; the assistant's program may ask its user by it.
enum class Effect {
  reads,
  adds,      // makes something new
  replaces,  // changes or removes what was there
};

struct Tool {
  std::string name{};
  std::string description{};  // one or two sentences: each client pays for them in every conversation
  Json schema{};              // of its arguments; schema.h says which words of JSON Schema may stand in it
  Effect effect = Effect::reads;
  std::string narrow{};  // how to ask for less, said when an answer had to be cut
  /// Gets arguments that fit the schema. Called from several threads; a requested stop ends it soon.
  std::function<Outcome(const Json& arguments, std::stop_token stop)> call{};
};

}  // namespace tunnelctl::mcp
