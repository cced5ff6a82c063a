#include "tunneld/fetch.h"

#include <memory>
#include <string>
#include <utility>

#include "common/http_client.h"

namespace tunneld {
namespace {

boost::asio::awaitable<Result<std::string>> get(std::shared_ptr<const http::Client> client, std::string url) {
  auto response = co_await client->get(std::move(url));
  if (!response) co_return tl::unexpected(response.error());
  co_return std::move(response->body);
}

}  // namespace

Result<TokenKeys::Fetch> make_fetch() {
  auto client = http::Client::make({});
  if (!client) return tl::unexpected(client.error());
  auto shared = std::make_shared<const http::Client>(std::move(*client));
  return TokenKeys::Fetch([shared](std::string url) { return get(shared, std::move(url)); });
}

}  // namespace tunneld
