#include "tunnelctl/mcp/server.h"

#include <algorithm>
#include <utility>

#include "tunnelctl/mcp/schema.h"

namespace tunnelctl::mcp {
namespace {

/// How long a client may keep the list of tools: it changes only with a new start.
constexpr int kListKeptMs = 3'600'000;

const Json* member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

Json all_versions() {
  Json versions = Json::array({kStatelessVersion});
  for (auto one = kHandshakeVersions.rbegin(); one != kHandshakeVersions.rend(); ++one)
    versions.push_back(*one);
  return versions;
}

bool at_least(std::string_view version, std::string_view least) {
  return version >= least;  // they are dates
}

/// 1 and "1" are two ids.
std::string key_of(const Json& id) {
  return id.dump(-1, ' ', true);
}

/// For an error message: a name of any length and content comes from the client.
std::string shown(const std::string& name) {
  constexpr std::size_t kMost = 64;
  auto text = Json(name).dump(-1, ' ', true);
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
}

}  // namespace

/// The answers to an array of messages go back as one array, when the last is there.
struct Server::Batch {
  std::mutex mutex{};
  std::size_t missing = 0;
  Json answers = Json::array();
};

Server::Server(ServerOptions options, std::vector<Tool> tools, Write write)
    : options_(std::move(options)),
      tools_(std::move(tools)),
      write_(std::move(write)),
      calls_(options_.calls) {}

void Server::write(const Json& message) {
  const auto text = message.dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::lock_guard lock(writing_);
  write_(text);
}

void Server::receive(std::string_view line) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
  auto incoming = read_message(line);
  if (incoming.batch) {
    receive_batch(std::move(incoming.messages));
    return;
  }
  handle(std::move(incoming.messages.front()), [this](const Json& reply) {
    if (!reply.is_null()) write(reply);
  });
}

void Server::refuse_too_long(std::size_t longest) {
  write(error_answer(nullptr, ErrorCode::invalid_request,
                     "Invalid Request: a message may have " + std::to_string(longest) + " bytes at most"));
}

void Server::receive_batch(std::vector<Message> messages) {
  // Only one revision has them, and `initialize` may not be in one.
  if (version_ != "2025-03-26") {
    write(error_answer(nullptr, ErrorCode::invalid_request,
                       "Invalid Request: only protocol version 2025-03-26 has batches"));
    return;
  }
  const auto batch = std::make_shared<Batch>();
  const auto answered = [](const Message& one) {
    return one.kind == Message::Kind::request || one.kind == Message::Kind::invalid;
  };
  batch->missing = static_cast<std::size_t>(std::count_if(messages.begin(), messages.end(), answered));
  const auto reply = [this, batch](Json one) {
    const std::lock_guard lock(batch->mutex);
    if (!one.is_null()) batch->answers.push_back(std::move(one));
    if (--batch->missing == 0 && !batch->answers.empty()) write(batch->answers);
  };
  for (auto& one : messages) handle(std::move(one), reply);
}

void Server::handle(Message message, const Reply& reply) {
  switch (message.kind) {
    case Message::Kind::passed_over: return;
    case Message::Kind::notification: notified(message); return;
    case Message::Kind::invalid: reply(std::move(message.problem)); return;
    case Message::Kind::request: break;
  }
  auto era = Era::none;
  if (auto problem = check_version(message, era); !problem.is_null()) {
    reply(std::move(problem));
    return;
  }
  const bool handshake = era != Era::stateless;
  if (message.method == "initialize" && handshake) return reply(initialize(message));
  if (message.method == "ping" && handshake) return reply(answer(message.id, Json::object()));
  if (message.method == "server/discover" && !handshake) return reply(discover(message));
  if (message.method == "tools/list") return reply(list(message, era));
  if (message.method == "tools/call") return call(std::move(message), era, reply);
  reply(error_answer(message.id, ErrorCode::method_not_found, "Method not found: " + shown(message.method)));
}

void Server::notified(const Message& message) {
  if (message.method != "notifications/cancelled") return;
  if (const auto* id = member(message.params, "requestId")) calls_.cancel(key_of(*id));
}

Json Server::check_version(const Message& request, Era& era) const {
  const auto refuse = [&](const std::string& why) {
    return error_answer(request.id, ErrorCode::invalid_params, "Invalid params: " + why);
  };
  const auto* meta = member(request.params, "_meta");
  if (meta != nullptr && !meta->is_object()) return refuse("_meta must be an object");
  const auto* version = meta != nullptr ? member(*meta, kMetaVersion) : nullptr;
  if (version != nullptr) {
    if (!version->is_string()) return refuse(std::string(kMetaVersion) + " must be text");
    if (*version != kStatelessVersion)
      return error_answer(request.id, ErrorCode::unsupported_version, "Unsupported protocol version",
                          {{"supported", all_versions()}, {"requested", *version}});
    const auto* capabilities = member(*meta, kMetaCapabilities);
    if (capabilities == nullptr || !capabilities->is_object())
      return refuse("_meta must have " + std::string(kMetaCapabilities) + ", an object");
    era = Era::stateless;
    return nullptr;
  }
  if (!version_.empty()) {
    era = Era::handshake;
    return nullptr;
  }
  if (request.method == "initialize" || request.method == "ping") return nullptr;
  return refuse("say initialize first, or name the protocol version in _meta as " +
                std::string(kMetaVersion));
}

Json Server::implementation() const {
  return {{"name", options_.name}, {"version", options_.version}};
}

Json Server::initialize(const Message& request) {
  if (!version_.empty())
    return error_answer(request.id, ErrorCode::invalid_request,
                        "Invalid Request: initialize was said already");
  const auto* wanted = member(request.params, "protocolVersion");
  if (wanted == nullptr || !wanted->is_string())
    return error_answer(request.id, ErrorCode::invalid_params,
                        "Invalid params: protocolVersion must be text, e.g. \"" +
                            std::string(kHandshakeVersions.back()) + "\"");
  const auto known =
      std::find(kHandshakeVersions.begin(), kHandshakeVersions.end(), wanted->get_ref<const std::string&>());
  version_ = known != kHandshakeVersions.end() ? *known : kHandshakeVersions.back();
  Json result{{"protocolVersion", version_},
              {"capabilities", {{"tools", {{"listChanged", false}}}}},
              {"serverInfo", implementation()}};
  if (!options_.instructions.empty()) result["instructions"] = options_.instructions;
  return answer(request.id, std::move(result));
}

Json Server::discover(const Message& request) const {
  Json result{{"supportedVersions", all_versions()}, {"capabilities", {{"tools", Json::object()}}}};
  if (!options_.instructions.empty()) result["instructions"] = options_.instructions;
  return answer(request.id, finished(std::move(result), Era::stateless, true));
}

Json Server::finished(Json result, Era era, bool may_be_kept) const {
  if (era != Era::stateless) return result;
  result["resultType"] = "complete";
  result["_meta"][kMetaServer] = implementation();
  if (may_be_kept) {
    result["ttlMs"] = kListKeptMs;
    result["cacheScope"] = "private";  // it depends on how this server was started
  }
  return result;
}

Json Server::tool_list() const {
  Json list = Json::array();
  for (const auto& tool : tools_) {
    Json hints{{"readOnlyHint", tool.effect == Effect::reads}};
    if (tool.effect != Effect::reads) hints["destructiveHint"] = tool.effect == Effect::replaces;
    list.push_back({{"name", tool.name},
                    {"description", tool.description},
                    {"inputSchema", tool.schema},
                    {"annotations", std::move(hints)}});
  }
  return {{"tools", std::move(list)}};
}

Json Server::list(const Message& request, Era era) const {
  if (const auto* cursor = member(request.params, "cursor"); cursor != nullptr && !cursor->is_null())
    return error_answer(request.id, ErrorCode::invalid_params,
                        "Invalid params: unknown cursor; all tools are on the first page");
  return answer(request.id, finished(tool_list(), era, true));
}

Structured Server::structured(Era era) const {
  if (era == Era::stateless) return Structured::anything;
  return at_least(version_, "2025-06-18") ? Structured::objects : Structured::unknown;
}

void Server::call(Message request, Era era, const Reply& reply) {
  const auto refuse = [&](const std::string& why) {
    reply(error_answer(request.id, ErrorCode::invalid_params, why));
  };
  const auto* name = member(request.params, "name");
  if (name == nullptr || !name->is_string()) return refuse("Invalid params: name must be text");
  const auto& wanted = name->get_ref<const std::string&>();
  const auto tool =
      std::find_if(tools_.begin(), tools_.end(), [&](const auto& one) { return one.name == wanted; });
  if (tool == tools_.end()) {
    const auto why = options_.why_not ? options_.why_not(wanted) : std::string();
    return refuse("Unknown tool: " + shown(wanted) + (why.empty() ? "" : ": " + why));
  }
  const auto* given = member(request.params, "arguments");
  if (given != nullptr && !given->is_object() && !given->is_null())
    return refuse("Invalid params: arguments must be an object");

  const auto ended_with = [this, tool, era, structured = structured(era)](const Json& id,
                                                                          const Outcome& outcome) {
    return answer(id,
                  finished(call_result(outcome, options_.most_answer_bytes, tool->narrow, structured), era));
  };
  auto arguments = checked_arguments(tool->schema, given == nullptr ? Json() : *given);
  // Not an error of the protocol: the assistant is to read it and to mend its call.
  if (!arguments)
    return reply(ended_with(request.id, {.text = wanted + ": " + arguments.error().message, .failed = true}));

  auto work = [tool, arguments = std::move(*arguments)](std::stop_token stop) {
    return tool->call(arguments, std::move(stop));
  };
  auto report = [this, tool, id = request.id, ended_with, reply](Calls::Ended ended, Outcome outcome) {
    const bool reads = tool->effect == Effect::reads;
    // A write that was sent may have arrived, and saying it again might do it twice.
    const auto failed = [&](const std::string& why) {
      return ended_with(id, {.text = tool->name + ": " + why +
                                     (reads ? "" : "; it may have been done: look before saying it again"),
                             .failed = true});
    };
    switch (ended) {
      case Calls::Ended::done: return reply(ended_with(id, outcome));
      case Calls::Ended::cancelled: return reply(nullptr);
      case Calls::Ended::stopped: return reply(failed("the server ends"));
      case Calls::Ended::late:
        return reply(failed("gave up after " + std::to_string(options_.calls.deadline.count() / 1000) + " s" +
                            (reads ? "; ask for less" : "")));
    }
  };
  switch (calls_.start(key_of(request.id), std::move(work), std::move(report))) {
    case Calls::Taken::yes: return;
    case Calls::Taken::known:
      return reply(error_answer(request.id, ErrorCode::invalid_request,
                                "Invalid Request: a request with this id is being served"));
    case Calls::Taken::full:
      return reply(ended_with(
          request.id,
          {.text = wanted + ": too many calls wait; ask again when some are answered", .failed = true}));
  }
}

}  // namespace tunnelctl::mcp
