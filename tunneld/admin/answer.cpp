#include "tunneld/admin/answer.h"

#include <chrono>
#include <span>
#include <utility>

#include <nlohmann/json.hpp>

#include "tunneld/admin/health.h"

namespace tunneld::admin {
namespace {

const std::vector<tunnel::Header> kNoTrailers;

}  // namespace

std::string text_of(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Answer answer_refusing(const tunnel::HttpExchange& exchange, const tunnel::Refusal& why) {
  const auto& id = exchange.correlation_id();
  Answer made;
  made.status = why.http_status.value_or(tunnel::facts(why.code).http_status);
  made.body = tunnel::error_body(why, rfc3339(std::chrono::system_clock::now()), id, id);
  if (made.status == 401) made.fields.push_back({"WWW-Authenticate", "Bearer error=\"invalid_token\""});
  if (why.retry_after) made.fields.push_back({"Retry-After", std::to_string(why.retry_after->count())});
  return made;
}

tunnel::asio::awaitable<void> send(tunnel::HttpExchange& exchange, Answer answer) {
  tunnel::ResponseHead head;
  head.status = answer.status;
  head.fields = {{"Cache-Control", "no-store"},
                 {"X-Content-Type-Options", "nosniff"},
                 {"X-Correlation-ID", exchange.correlation_id()}};
  if (answer.status != 204) head.fields.push_back({"Content-Type", std::string(answer.content_type)});
  for (auto& field : answer.fields) head.fields.push_back(std::move(field));
  head.body = tunnel::SizedBody{answer.body.size()};
  if (exchange.request().method == "HEAD") {
    if (!co_await exchange.send_head(head)) co_return;
  } else {
    if (!co_await exchange.send_head_with(head, std::as_bytes(std::span(answer.body)))) co_return;
  }
  (void)co_await exchange.finish(kNoTrailers);
}

}  // namespace tunneld::admin
