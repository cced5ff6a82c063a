#include <algorithm>
#include <cctype>
#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct Api {
  std::string method, path, file;
  std::vector<std::string> headers;
};

constexpr const char* kSecrets[] = {"authorization", "proxy-authorization", "cookie"};
constexpr const char* kMethods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

/// "api /api/org" reads; "api POST /api/..." does what it says.
Result<grafana::Call> call_of(const Api& options) {
  grafana::Call call{.method = options.method, .path = options.path};
  if (call.path.empty()) {
    call.path = call.method;
    call.method = options.file.empty() ? "GET" : "POST";
  }
  std::transform(call.method.begin(), call.method.end(), call.method.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (std::find(std::begin(kMethods), std::end(kMethods), call.method) == std::end(kMethods))
    return fail(Error::Kind::bad_input,
                "\"" + call.method + "\" is no method; there are GET, POST, PUT, PATCH and DELETE");
  const auto below = [&](std::string_view root) {
    return call.path.starts_with(root) && (call.path.size() == root.size() || call.path[root.size()] == '/' ||
                                           call.path[root.size()] == '?');
  };
  if (!below("/api") && !below("/apis"))
    return fail(Error::Kind::bad_input, "\"" + call.path +
                                            "\": must begin with /api/ or /apis/, without the server's "
                                            "address, e.g. /api/org");
  const auto bad = std::find_if(call.path.begin(), call.path.end(), [](unsigned char c) {
    return c <= 0x20 || c >= 0x7F || c == '#' || c == '"' || c == '<' || c == '>' || c == '\\';
  });
  if (bad != call.path.end())
    return fail(Error::Kind::bad_input, "\"" + call.path + "\": the character at " +
                                            std::to_string(bad - call.path.begin() + 1) +
                                            " must be percent-encoded (a space is %20)");
  if (call.path.find("/../") != std::string::npos || call.path.ends_with("/.."))
    return fail(Error::Kind::bad_input, "\"" + call.path + "\": must not climb by ..");
  if (!options.file.empty() && call.method == "GET")
    return fail(Error::Kind::bad_input, "--body: GET takes none; say POST, PUT or PATCH");
  // The one POST of all that only asks.
  call.asks = call.method == "POST" && call.path.substr(0, call.path.find('?')) == "/api/ds/query";
  for (const auto& line : options.headers) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || colon == 0)
      return fail(Error::Kind::bad_input, "--header: must read \"Name: value\"");
    auto name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (std::find(std::begin(kSecrets), std::end(kSecrets), name) != std::end(kSecrets))
      return fail(Error::Kind::bad_input,
                  "--header: " + line.substr(0, colon) +
                      " is a secret, and every user of this machine can read a command line; set "
                      "GRAFANA_SERVICE_ACCOUNT_TOKEN or --token-file, or GRAFANA_EXTRA_HEADERS");
    const auto value = line.find_first_not_of(' ', colon + 1);
    call.headers.emplace_back(line.substr(0, colon), value == std::string::npos ? "" : line.substr(value));
  }
  return call;
}

Result<ExitStatus> run(const Api& options, Session& session) {
  auto call = call_of(options);
  if (!call) return tl::unexpected(call.error());
  if (!options.file.empty()) {
    auto body = read_json(options.file, session);
    if (!body) return tl::unexpected(body.error());
    call->body = std::move(*body);
  }
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto answer = server->call(*call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) {
    // What the server says at length is for whoever debugs it.
    if (session.json() && !answer->json.is_null()) session.out << pretty(answer->json);
    return tl::unexpected(server->error(*call, *answer));
  }
  const auto first = answer->text.find_first_not_of(" \t\r\n");
  if (answer->content_type.find("html") != std::string::npos ||
      (first != std::string::npos && answer->text[first] == '<'))
    return fail(Error::Kind::unavailable,
                call->method + " " + server->url() + call->path.substr(0, call->path.find('?')) + ": " +
                    std::to_string(answer->status) + ": the answer is a web " +
                    "page, perhaps one to sign in; is the URL the root of Grafana?");
  if (!answer->json.is_null())
    session.out << pretty(answer->json);
  else if (session.out_is_terminal)
    session.out << terminal::harmless(answer->text) << (answer->text.empty() ? "" : "\n");
  else
    session.out << answer->text;
  if (answer->text.empty()) session.say(std::to_string(answer->status) + ", without a body");
  return ExitStatus::ok;
}

}  // namespace

void add_api(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Api>();
  auto& verb = add_verb(app, chosen, "api", "Sends any request to Grafana's API, and prints the answer",
                        "  tunnelctl api /api/org\n"
                        "  tunnelctl api GET '/api/search?query=tunnel&limit=5' | jq -r '.[].uid'\n"
                        "  tunnelctl api POST /api/annotations --body note.json",
                        options);
  verb.add_option("method", options->method,
                  "GET, POST, PUT, PATCH or DELETE; without one: GET, or POST with a body")
      ->required()
      ->type_name("METHOD");
  verb.add_option("path", options->path, "from /api/ or /apis/ on, percent-encoded, with its query")
      ->type_name("PATH");
  verb.add_option("--body", options->file, "JSON to send; - reads standard input")->type_name("FILE");
  verb.add_option("--header", options->headers, "one more header, e.g. \"X-Disable-Provenance: true\"")
      ->allow_extra_args(false)
      ->type_name("LINE");
}

}  // namespace tunnelctl
