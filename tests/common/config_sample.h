#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config_file.h"

/// A configuration with every kind of value, for the tests of the loader and its fuzz target.
namespace config_sample {

enum class Format { automatic, json, text };

struct Service {
  std::string name;
  std::uint16_t port = 0;
};
struct Upstream {
  std::string name;
  std::string address;
  std::chrono::seconds connect_timeout{5};
  Secret password;
  std::vector<std::string> labels;
  std::vector<Service> services;
};
struct Options {
  int max_channels = 10;
  std::int64_t offset = 0;
  std::uint64_t serial = 0;
  bool compression = false;
  std::chrono::milliseconds ping{30'000};
  std::chrono::seconds drain{30};
  std::size_t max_frame = 1024 * 1024;
  Format format = Format::automatic;
  std::string path = "/ws";
  std::string issuer = "local";
  std::filesystem::path certificate;
  std::optional<std::filesystem::path> known_hosts;
  std::vector<std::string> origins;
  Secret shared_secret;
  std::vector<Upstream> upstreams;
};

inline std::string absolute(std::string_view text) {
  return text.starts_with('/') ? "" : "must start with /";
}

inline config::Schema schema_of(Options& options) {
  using namespace std::chrono_literals;
  config::Schema schema("APP");
  schema.add("ssh.max_channels", &options.max_channels,
             {.help = "Channels per session.",
              .example = "20",
              .range = {1, 100},
              .old_names = {{"MAX_CHANNELS"}, {"SSH_CHANNELS"}}});
  schema.add("ssh.compression", &options.compression, {.help = "Compress.", .example = "true"});
  schema.add("numbers.offset", &options.offset, {.help = "Any whole number."});
  schema.add("numbers.serial", &options.serial, {.help = "Counts up."});
  schema.add("ws.ping", &options.ping,
             {.help = "Time between pings.",
              .example = "30s",
              .range = {1s, 10min},
              .hot = true,
              .old_names = {{"PING_INTERVAL", "ms"}}});
  schema.add("ws.drain", &options.drain, {.help = "Time to finish.", .example = "1m", .hot = true});
  schema.add_bytes("ws.max_frame", &options.max_frame,
                   {.help = "Largest frame.", .example = "64KiB", .range = {1024, 10 << 20}});
  schema.add("ws.path", &options.path,
             {.help = "Path of the door.", .example = "/tunnel", .check = absolute});
  schema.add_enum("log.format", &options.format,
                  {{"auto", Format::automatic}, {"json", Format::json}, {"text", Format::text}},
                  {.help = "Shape of a line.", .example = "json"});
  schema.add("auth.issuer", &options.issuer,
             {.help = "Who signs tokens.", .example = "https://id.example/", .required = true});
  schema.add("auth.shared_secret", &options.shared_secret, {.help = "Key of HS256 | 32 bytes or more."});
  schema.add("tls.certificate", &options.certificate, {.help = "Chain in PEM."});
  schema.add("tls.known_hosts", &options.known_hosts, {.help = "Pinned keys."});
  schema.add(
      "http.origins", &options.origins,
      {.help = "Allowed origins.", .example = "https://a.example", .hot = true, .check = [](auto text) {
         return text.starts_with("https://") ? "" : "must start with https://";
       }});
  schema.add_list<Upstream>(
      "upstreams", &options.upstreams,
      [](config::Schema& item, Upstream& upstream) {
        item.add("name", &upstream.name, {.help = "Its name.", .example = "home", .required = true});
        item.add("address", &upstream.address, {.help = "Where it is.", .example = "192.0.2.7:22"});
        item.add("limits.connect_timeout", &upstream.connect_timeout,
                 {.help = "Patience.", .example = "5s", .range = {1s, 60s}});
        item.add("password", &upstream.password, {.help = "Its password."});
        item.add("labels", &upstream.labels, {.help = "Free words."});
        item.add_list<Service>(
            "services", &upstream.services,
            [](config::Schema& inner, Service& service) {
              inner.add("name", &service.name, {.help = "Its name.", .required = true});
              inner.add("port", &service.port, {.help = "Its port.", .range = {1, 65535}, .required = true});
            },
            {.help = "What it offers.", .required = true, .unique = "name", .max_items = 3});
      },
      {.help = "Far sides.", .hot = true, .unique = "name", .max_items = 4});
  schema.allow_variable("APP_CONFIG");
  return schema;
}

}  // namespace config_sample
