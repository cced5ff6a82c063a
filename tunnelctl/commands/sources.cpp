#include "tunnelctl/commands/sources.h"

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "common/http_url.h"
#include "tunnelctl/grafana/datasource_routes.h"
#include "tunnelctl/prometheus/answer.h"
#include "tunnelctl/prometheus/direct.h"

namespace tunnelctl {
namespace {

/// What there is to say of the two kinds.
struct Kind {
  const char* name;
  std::span<const std::string_view> types;  // Grafana's plugins whose routes speak the API
  std::string Globals::*flag;
  std::string Context::*key;
  const char* flag_name;
  std::filesystem::path Context::*token_key;
  const char* key_name;
  const char* token_key_name;
  const char* variable;
  const char* token_variable;
  const char* tenant_variable;
};

constexpr std::array<std::string_view, 3> kPrometheusTypes = {
    "prometheus", "grafana-amazonprometheus-datasource", "grafana-azureprometheus-datasource"};
constexpr std::array<std::string_view, 1> kLokiTypes = {"loki"};

const Kind kPrometheus{.name = "Prometheus",
                       .types = kPrometheusTypes,
                       .flag = &Globals::prometheus_url,
                       .key = &Context::prometheus_url,
                       .flag_name = "--prometheus-url",
                       .token_key = &Context::prometheus_token_file,
                       .key_name = "prometheus_url",
                       .token_key_name = "prometheus_token_file",
                       .variable = "PROMETHEUS_URL",
                       .token_variable = "PROMETHEUS_TOKEN_FILE",
                       .tenant_variable = "PROMETHEUS_ORG_ID"};
const Kind kLoki{.name = "Loki",
                 .types = kLokiTypes,
                 .flag = &Globals::loki_url,
                 .key = &Context::loki_url,
                 .flag_name = "--loki-url",
                 .token_key = &Context::loki_token_file,
                 .key_name = "loki_url",
                 .token_key_name = "loki_token_file",
                 .variable = "LOKI_URL",
                 .token_variable = "LOKI_TOKEN_FILE",
                 .tenant_variable = "LOKI_ORG_ID"};

/// A data source of a Grafana.
class ThroughGrafana final : public prometheus::Transport {
 public:
  ThroughGrafana(std::shared_ptr<grafana::Server> server, grafana::Datasource source, std::string kind)
      : routes_(std::move(server), std::move(source)),
        kind_(std::move(kind)),
        name_("data source " + routes_.source().uid + " of " + routes_.server().url()) {}

  Result<prometheus::Json> get(const prometheus::Ask& ask) const override {
    grafana::SourceAsk asked{
        .path = ask.path, .query = prometheus::encoded(ask.parameters), .form = ask.form};
    for (const auto& [name, value] : ask.headers) asked.headers.emplace_back(name, value);
    auto answer = routes_.ask(asked);
    if (!answer) return tl::unexpected(prometheus::without_answer(answer.error(), kind_));
    auto& said = answer->answer;
    auto json = prometheus::read_answer(answer->where,
                                        {.status = said.status,
                                         .content_type = said.content_type,
                                         .body = said.text,
                                         .location = said.location,
                                         .parsed = &said.json},
                                        kind_);
    if (json) return json;
    Error error = std::move(json.error());
    if (!answer->refused.empty()) error.message += "; before, " + answer->refused;
    if (error.kind == Error::Kind::denied)
      error.message += "; the account needs the permission to query data source " + routes_.source().uid +
                       " (role Viewer has it): check the token and the organisation (--org)";
    // Grafana's own answer when it does not reach what it passes requests on to; its body is empty.
    if (said.status == 502)
      error.message +=
          "; Grafana does not reach " + kind_ + "; see tunnelctl datasource check " + routes_.source().uid;
    return tl::unexpected(std::move(error));
  }
  const std::string& name() const override { return name_; }

 private:
  grafana::DatasourceRoutes routes_;
  std::string kind_;
  std::string name_;
};

bool fits(const Kind& kind, const grafana::Datasource& source) {
  return std::find(kind.types.begin(), kind.types.end(), source.type) != kind.types.end();
}

std::string listed(const std::vector<grafana::Datasource>& sources) {
  std::string text;
  for (const auto& one : sources) text += (text.empty() ? "" : ", ") + one.uid + " (" + one.name + ")";
  return text;
}

/// What remains for data sources whose routes speak something else, e.g. a VictoriaMetrics plugin's.
std::string in_its_own_words(const grafana::Datasource& source) {
  return "ask it with: tunnelctl datasource query " + source.uid;
}

/// nullopt: there is none of that type; `why` says so.
Result<std::optional<grafana::Datasource>> the_one(grafana::Server& server, const Kind& kind,
                                                   std::string& why) {
  const auto all = grafana::list_datasources(server);
  if (!all) return tl::unexpected(all.error());
  std::vector<grafana::Datasource> fitting;
  for (const auto& one : all->items)
    if (fits(kind, one)) fitting.push_back(one);
  if (fitting.size() == 1) return std::optional(fitting.front());
  for (const auto& one : fitting)
    if (one.is_default) return std::optional(one);
  if (fitting.empty()) {
    why = server.url() + " has no data source of type " + std::string(kind.types.front());
    for (const auto& one : all->items)
      if (one.type.find("victoria") != std::string::npos)
        why += "; " + one.uid + " is of type " + one.type + ": " + in_its_own_words(one);
    return std::optional<grafana::Datasource>();
  }
  return fail(Error::Kind::bad_input,
              server.url() + " has several data sources of type " + std::string(kind.types.front()) +
                  ", none of them the default: " + listed(fitting) + "; say which: --datasource UID");
}

using Way = std::shared_ptr<const prometheus::Transport>;

Result<Way> by_name(Session& session, const Kind& kind, const std::string& named) {
  auto connected = session.grafana();
  if (!connected) return tl::unexpected(connected.error());
  auto server = std::make_shared<grafana::Server>(std::move(*connected));
  auto source = grafana::find_datasource(*server, named);
  if (!source) return tl::unexpected(source.error());
  if (!fits(kind, *source))
    return fail(Error::Kind::bad_input, "--datasource " + named + ": data source " + source->uid + " (" +
                                            source->name + ") is of type " + source->type + ", not " +
                                            std::string(kind.types.front()) + "; " +
                                            in_its_own_words(*source));
  return std::make_shared<const ThroughGrafana>(std::move(server), std::move(*source), kind.name);
}

/// Null when the Grafana has none of that type; `why` says so.
Result<Way> by_type(Session& session, const Kind& kind, std::string& why) {
  auto connected = session.grafana();
  if (!connected) return tl::unexpected(connected.error());
  auto server = std::make_shared<grafana::Server>(std::move(*connected));
  auto source = the_one(*server, kind, why);
  if (!source) return tl::unexpected(source.error());
  if (!*source) return Way();
  return std::make_shared<const ThroughGrafana>(std::move(server), std::move(**source), kind.name);
}

Result<std::optional<prometheus::Connection>> straight(Session& session, const Kind& kind) {
  const auto context = session.context();
  if (!context) return tl::unexpected(context.error());
  prometheus::Connection connection;
  connection.token_setting = kind.token_variable;
  const auto* variable = session.globals.context.empty() ? session.variable(kind.variable) : nullptr;
  if (const auto& flag = session.globals.*kind.flag; !flag.empty()) {
    connection.url = flag;
    connection.url_setting = kind.flag_name;
  } else if (variable != nullptr) {
    connection.url = *variable;
    connection.url_setting = kind.variable;
  } else if (*context && !((**context).*kind.key).empty()) {
    connection.url = (**context).*kind.key;
    connection.url_setting = kind.key_name;
  } else {
    return std::optional<prometheus::Connection>();
  }
  // A token goes to no other server than the one it was set for.
  if (connection.url_setting == kind.key_name) {
    connection.token_setting = kind.token_key_name;
    connection.token_file = session.at_home((**context).*kind.token_key);
    session.use_files(**context, connection.tls);
  } else if (const auto* file = session.variable(kind.token_variable)) {
    connection.token_file = *file;
  }
  if (const auto* tenant = session.variable(kind.tenant_variable)) connection.tenant = *tenant;
  if (*context) connection.allow_plain = (**context).allow_plain_http;
  session.use_flags(connection.tls, connection.timeout, connection.allow_plain);
  return connection;
}

Result<Way> way_to(Session& session, const Kind& kind, const SourceFlags& flags) {
  const auto& flag = session.globals.*kind.flag;
  if (!flags.datasource.empty() && !flag.empty())
    return fail(Error::Kind::bad_input, std::string("say either --datasource or ") + kind.flag_name);
  if (!flags.datasource.empty()) return by_name(session, kind, flags.datasource);
  std::string none_there;
  if (flag.empty() && session.names_grafana()) {
    auto way = by_type(session, kind, none_there);
    if (!way || *way != nullptr) return way;
  }
  auto connection = straight(session, kind);
  if (!connection) return tl::unexpected(connection.error());
  if (!*connection && !none_there.empty())
    return fail(Error::Kind::not_found, none_there + "; name the server itself with " + kind.flag_name);
  if (!none_there.empty())
    session.say(none_there + "; asking " + (*connection)->url_setting +
                " itself: " + http::shown_url((*connection)->url));
  if (!*connection) {
    session.configuration_is_wrong = true;
    return fail(Error::Kind::bad_input,
                std::string("no ") + kind.name + " is named: say " + kind.flag_name + " URL or set " +
                    kind.variable +
                    "; or name a Grafana (--grafana-url, GRAFANA_URL, a context) and let it ask "
                    "its data source");
  }
  (*connection)->server = kind.name;
  auto way = prometheus::Direct::make(std::move(**connection), session.stop);
  if (!way) session.configuration_is_wrong = true;
  return way;
}

}  // namespace

Result<prometheus::Server> metric_source(Session& session, const SourceFlags& flags) {
  auto way = way_to(session, kPrometheus, flags);
  if (!way) return tl::unexpected(way.error());
  return prometheus::Server(std::move(*way));
}

Result<prometheus::Loki> log_source(Session& session, const SourceFlags& flags) {
  auto way = way_to(session, kLoki, flags);
  if (!way) return tl::unexpected(way.error());
  return prometheus::Loki(std::move(*way));
}

Result<std::optional<prometheus::Connection>> straight_to_prometheus(Session& session) {
  return straight(session, kPrometheus);
}

Result<std::optional<prometheus::Connection>> straight_to_loki(Session& session) {
  return straight(session, kLoki);
}

void add_source(CLI::App& verb, SourceFlags& flags) {
  verb.add_option("--datasource", flags.datasource,
                  "of the Grafana, by uid or name; without it its only or default one of the right type")
      ->type_name("UID|NAME");
}

}  // namespace tunnelctl
