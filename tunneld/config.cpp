#include "tunneld/config.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <sstream>
#include <utility>

#include <boost/asio/ip/address.hpp>

#include "tunnel/request_path.h"
#include "tunneld/access/authorization.h"

namespace tunneld {

using namespace std::chrono_literals;

namespace {

std::string check_listen(std::string_view text) {
  const auto parsed = parse_host_port(text);
  if (!parsed) return "must be address:port, e.g. 127.0.0.1:3001 or [::1]:3001";
  boost::system::error_code error;
  boost::asio::ip::make_address(parsed->host, error);
  if (error) return "must name an IP address, not a host name";
  return {};
}

std::string check_far_address(std::string_view text) {
  const auto parsed = parse_host_port(text);
  if (!parsed || parsed->port == 0) return "must be host:port, e.g. 10.0.0.5:22";
  return {};
}

std::string check_name(std::string_view text) {
  return tunnel::valid_service_name(text)
             ? ""
             : "must be 1 to 63 of a-z 0-9 and -, beginning with a letter or digit";
}

std::string check_origin(std::string_view text) {
  // As a browser writes it: scheme and authority, nothing after (RFC 6454 §6.2).
  const bool scheme = text.starts_with("https://") || text.starts_with("http://");
  const auto authority = scheme ? text.substr(text.find("//") + 2) : std::string_view{};
  if (authority.empty() || authority.find_first_of("/?#@* ") != std::string_view::npos)
    return "must be an origin without a path, e.g. https://app.example.com";
  return {};
}

std::string check_fingerprint_text(std::string_view text) {
  auto good = ssh::check_fingerprint(std::string(text));
  return good ? std::string{} : good.error().message;
}

std::string check_user(std::string_view text) {
  const bool good = !text.empty() && text.size() <= 64 &&
                    std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
  return good ? "" : "must be 1 to 64 printable characters without spaces";
}

void bind_listeners(config::Schema& schema, Config& config) {
  schema.add(
      "listen", &config.listen,
      {.help = "Addresses of the public door (HTTPS and WebSocket over TLS). In production 0.0.0.0:3001 "
               "and a certificate of your own.",
       .example = "0.0.0.0:3001",
       .check = check_listen});
  schema.add(
      "plaintext_listen", &config.plaintext_listen,
      {.help = "Addresses of a public door without TLS, for a proxy on the same machine that ends TLS.",
       .example = "127.0.0.1:3002",
       .check = check_listen});
  schema.add("plaintext_trusted_network", &config.plaintext_trusted_network,
             {.help = "Allow plaintext_listen on other addresses than loopback, because only a proxy that "
                      "ends TLS can reach them. Tokens cross that network unencrypted.",
              .example = "false"});
  schema.add("admin_listen", &config.admin_listen,
             {.help = "Address of the admin door (metrics, health, diagnostics); loopback only.",
              .example = "127.0.0.1:9090",
              .check = check_listen});
  schema.add("state_dir", &config.state_dir,
             {.help = "Directory of keys and certificates made by tunneld. Empty: $STATE_DIRECTORY, "
                      "$XDG_STATE_HOME/tunneld, ~/.local/state/tunneld, or /var/lib/tunneld as root.",
              .example = "/var/lib/tunneld"});
  schema.add("threads", &config.threads,
             {.help = "Worker threads; 0 for one per core.", .example = "0", .range = {0, 256}});
  schema.add(
      "allowed_origins", &config.allowed_origins,
      {.help = "Origins whose browser pages may open WebSockets. Callers that are no browsers send none.",
       .example = "https://app.example.com",
       .hot = true,
       .check = check_origin});
  schema.add("drain_timeout", &config.drain_timeout,
             {.help = "How long requests under way may take to finish after SIGTERM.",
              .example = "30s",
              .range = {0s, 10min},
              .hot = true});
  schema.add(
      "metrics.compat", &config.metrics_compat,
      {.help = "Add the metric names of earlier dashboards to /api/tunnel/metrics.", .example = "true"});
}

void bind_tls_and_auth(config::Schema& schema, Config& config) {
  schema.add("tls.certificate_file", &config.tls.certificate_file,
             {.help = "PEM file: the certificate, then its chain. Empty: a self-made one for loopback. "
                      "SIGHUP reads it again.",
              .example = "/etc/tunneld/tls.crt"});
  schema.add("tls.key_file", &config.tls.key_file,
             {.help = "PEM file with the certificate's unencrypted key.", .example = "/etc/tunneld/tls.key"});
  using Min = edge::TlsOptions::MinVersion;
  schema.add_enum(
      "tls.min_version", &config.tls.min_version, {{"1.3", Min::tls1_3}, {"1.2", Min::tls1_2}},
      {.help = "Oldest TLS version spoken; 1.2 only with ECDHE and AEAD ciphers.", .example = "1.3"});
  auto& auth = config.auth;
  using Mode = access::AuthMode;
  schema.add_enum(
      "auth.mode", &auth.mode,
      {{"local", Mode::local}, {"jwks", Mode::jwks}, {"shared_secret", Mode::shared_secret}},
      {.help = "Whose tokens are believed: local (made by tunneld token create), jwks (an identity "
               "provider's), shared_secret (HS256).",
       .example = "jwks"});
  schema.add("auth.issuer", &auth.issuer,
             {.help = "The tokens' iss, exactly. Required except in local mode.",
              .example = "https://id.example.com/",
              .old_names = {{"AUTH0_ISSUER", ""}}});
  schema.add("auth.audience", &auth.audience,
             {.help = "What the tokens' aud must be or contain. Required except in local mode.",
              .example = "https://tunnel.example.com",
              .old_names = {{"AUTH0_AUDIENCE", ""}}});
  schema.add("auth.jwks_file", &auth.jwks_file,
             {.help = "Mode jwks: file with the key set. Either this or auth.jwks_url.",
              .example = "/etc/tunneld/jwks.json"});
  schema.add("auth.jwks_url", &auth.jwks_url,
             {.help = "Mode jwks: https address of the key set, fetched without redirects.",
              .example = "https://id.example.com/.well-known/jwks.json",
              .old_names = {{"AUTH0_JWKS_URI", ""}}});
  schema.add("auth.shared_secret_file", &auth.shared_secret_file,
             {.help = "Mode shared_secret: file of at least 32 bytes, mode 0640 or narrower.",
              .example = "/etc/tunneld/shared_secret"});
  schema.add("auth.tier_claim", &auth.tier_claim,
             {.help = "Claim that holds the tier.", .example = "https://example.com/tier"});
  schema.add("auth.scope_claim", &auth.scope_claim,
             {.help = "Claim that holds the scopes.", .example = "scope"});
  schema.add("auth.leeway", &auth.leeway,
             {.help = "Allowed difference of the issuer's clock.", .example = "30s", .range = {0s, 5min}});
  schema.add("auth.max_lifetime", &auth.max_lifetime,
             {.help = "Longest lifetime of a token.", .example = "24h", .range = {1min, 24h}});
  schema.add(
      "auth.cache_entries", &auth.cache_entries,
      {.help = "Verified tokens remembered, about 1 KiB each.", .example = "10000", .range = {1, 1'000'000}});
  schema.add("auth.cache_ttl", &auth.cache_ttl,
             {.help = "How long a verified token is not verified again.",
              .example = "60s",
              .range = {0s, 60s},
              .old_names = {{"AUTH_TOKEN_CACHE_TTL", "s"}}});
}

void bind_limits(config::Schema& schema, Config& config) {
  auto& limits = config.limits;
  schema.add("limits.max_connections", &limits.max_connections,
             {.help = "Public connections at a time; more are closed at once and counted.",
              .example = "16000",
              .range = {1, 1'000'000}});
  schema.add(
      "limits.max_unauthenticated", &limits.max_unauthenticated,
      {.help = "Connections whose caller has shown no token yet; from half of it on, new ones are dropped "
               "at random once the crowd has lasted a moment.",
       .example = "256",
       .range = {2, 1'000'000}});
  schema.add("limits.fd_reserve", &limits.fd_reserve,
             {.help = "File descriptors kept free for SSH sessions, logs and the admin door.",
              .example = "64",
              .range = {16, 65536}});
  schema.add_bytes(
      "limits.header_line_bytes", &limits.header_line_bytes,
      {.help = "Longest request line and header field.", .example = "8KiB", .range = {1024, 65536}});
  schema.add_bytes("limits.header_bytes", &limits.header_bytes,
                   {.help = "Largest head of a request.", .example = "32KiB", .range = {1024, 1048576}});
  schema.add("limits.header_fields", &limits.header_fields,
             {.help = "Most header fields of a request.", .example = "100", .range = {10, 1000}});
  schema.add("limits.header_timeout", &limits.header_timeout,
             {.help = "From the first byte of a request to the end of its head; also for the TLS handshake.",
              .example = "10s",
              .range = {100ms, 10min}});
  schema.add("limits.body_timeout", &limits.body_timeout,
             {.help = "Longest pause within a request's body.", .example = "30s", .range = {100ms, 10min}});
  schema.add("limits.write_stall", &limits.write_stall,
             {.help = "How long a caller may take nothing of an answer.",
              .example = "30s",
              .range = {100ms, 10min}});
  schema.add(
      "limits.keep_alive", &limits.keep_alive,
      {.help = "How long a connection without a request stays open.", .example = "75s", .range = {1s, 1h}});
  schema.add("limits.idle_timeout", &limits.idle_timeout,
             {.help = "A stream without bytes in either direction is closed after this; pings do not count.",
              .example = "5m",
              .range = {1s, 24h},
              .old_names = {{"IDLE_TIMEOUT", "ms"}}});
  schema.add(
      "request.timeout", &config.request.timeout,
      {.help = "Wait for the service's first byte, and longest pause after it. Callers may ask for 1 to "
               "600 s by X-Tunnel-Timeout.",
       .example = "30s",
       .range = {1s, 10min}});
  schema.add("request.max_duration", &config.request.max_duration,
             {.help = "Longest streamed answer as a whole.", .example = "10m", .range = {1s, 24h}});
  schema.add("request.slow", &config.request.slow,
             {.help = "Requests that take longer are counted, and logged at most ten times a second.",
              .example = "5s",
              .range = {1ms, 10min},
              .hot = true});
  schema.add("ws.ping_interval", &config.ws.ping_interval,
             {.help = "Ping a WebSocket peer that was silent for this long.",
              .example = "30s",
              .range = {1s, 10min},
              .old_names = {{"PING_INTERVAL", "ms"}}});
  schema.add(
      "ws.dead_after", &config.ws.dead_after,
      {.help = "A WebSocket peer silent for this long is dead.", .example = "45s", .range = {2s, 20min}});
  schema.add_bytes("ws.max_frame", &config.ws.max_frame,
                   {.help = "Largest WebSocket frame and message.",
                    .example = "1MiB",
                    .range = {1024, 10 * 1024 * 1024},
                    .old_names = {{"MAX_FRAME_SIZE", ""}}});
  schema.add_bytes("ws.warn_frame", &config.ws.warn_frame,
                   {.help = "Messages larger than this are logged (once a connection).",
                    .example = "512KiB",
                    .range = {1024, 10 * 1024 * 1024},
                    .old_names = {{"FRAME_WARN_THRESHOLD", ""}}});
  schema.add("ws.compression", &config.ws.compression,
             {.help = "Offer permessage-deflate to callers that ask for it. Off where what is carried is "
                      "compressed or encrypted already, and where attackers choose part of a message.",
              .example = "false"});
  schema.add("ws.compression_level", &config.ws.compression_level,
             {.help = "1 (fast) to 6 (small).", .example = "6", .range = {1, 6}});
  schema.add_bytes("ws.compression_threshold", &config.ws.compression_threshold,
                   {.help = "Messages smaller than this are sent as they are.",
                    .example = "1KiB",
                    .range = {0, 1024 * 1024}});
}

void bind_tiers(config::Schema& schema, Config& config) {
  for (const auto tier : {tunnel::Tier::free, tunnel::Tier::premium, tunnel::Tier::enterprise}) {
    const auto index = static_cast<std::size_t>(tier);
    const std::string name = tunnel::to_string(tier);
    std::string old = "RATE_LIMIT_" + name;
    std::transform(old.begin(), old.end(), old.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    schema.add("tiers." + name + ".requests_per_minute", &config.limits.rates.per_minute[index],
               {.help = "Requests and streams a minute of one " + name +
                        " principal; ten seconds' worth may come at once. 0: no limit.",
                .example = std::to_string(config.limits.rates.per_minute[index]),
                .range = {0, 10'000'000},
                .hot = true,
                .old_names = {{old + "_RPM", ""}}});
    schema.add("tiers." + name + ".connections", &config.tiers[index].connections,
               {.help = "WebSockets and upgraded connections a " + name + " principal may have open.",
                .example = std::to_string(config.tiers[index].connections),
                .range = {1, 100'000},
                .hot = true,
                .old_names = {{old + "_CONN", ""}}});
    schema.add("tiers." + name + ".queue", &config.tiers[index].queue,
               {.help = "Requests of a " + name + " principal that may wait for a channel.",
                .example = std::to_string(config.tiers[index].queue),
                .range = {10, 1000},
                .hot = true});
    schema.add("tiers." + name + ".forwards", &config.tiers[index].forwards,
               {.help = "Services that one agent of a " + name + " principal may announce.",
                .example = std::to_string(config.tiers[index].forwards),
                .range = {1, 1000},
                .hot = true});
  }
}

void bind_links(config::Schema& schema, Config& config) {
  schema.add("link.resume_window", &config.link.resume_window,
             {.help = "How long a link whose connection broke waits for its client to come back. 0s: it ends "
                      "with its connection.",
              .example = "60s",
              .range = {0s, 10min},
              .hot = true});
  schema.add_bytes("link.max_buffer", &config.link.max_buffer,
                   {.help = "Most that a link keeps of what its client has not acknowledged; a sender whose "
                            "link holds that much waits.",
                    .example = "32MiB",
                    .range = {64 * 1024, 64 * 1024 * 1024},
                    .hot = true});
  schema.add("link.max_streams", &config.link.max_streams,
             {.help = "Streams open at a time over one link.",
              .example = "1024",
              .range = {1, 65'536},
              .hot = true});
}

void bind_protection(config::Schema& schema, Config& config) {
  auto& rates = config.limits.rates;
  schema.add("limits.address.requests_per_minute", &rates.address_per_minute,
             {.help = "Requests a minute from one address (IPv6: /64) that show no valid token. 0: no limit.",
              .example = "1000",
              .range = {0, 10'000'000},
              .hot = true,
              .old_names = {{"RATE_LIMIT_IP_RPM", ""}}});
  schema.add("limits.address.handshakes_per_minute", &rates.handshakes_per_minute,
             {.help = "Connections a minute from one address whose caller shows no valid token. 0: no limit.",
              .example = "20",
              .range = {0, 10'000'000},
              .hot = true});
  schema.add("limits.global_requests_per_minute", &rates.global_per_minute,
             {.help = "Requests a minute of all callers together. 0: no limit.",
              .example = "600000",
              .range = {0, 100'000'000},
              .hot = true,
              .old_names = {{"RATE_LIMIT_GLOBAL_RPM", ""}}});
  auto& penalty = config.limits.penalty;
  schema.add("penalty.enabled", &penalty.enabled,
             {.help = "Slow down and then block addresses whose callers keep failing to authenticate.",
              .example = "true",
              .hot = true});
  schema.add("penalty.throttle_after", &penalty.throttle_after,
             {.help = "Failures within penalty.window after which an address gets 10 requests a minute.",
              .example = "5",
              .range = {1, 1000},
              .hot = true});
  schema.add("penalty.block_after", &penalty.block_after,
             {.help = "Failures within penalty.window after which an address is refused.",
              .example = "10",
              .range = {2, 1000},
              .hot = true});
  schema.add("penalty.window", &penalty.window,
             {.help = "How long a failure counts.", .example = "5m", .range = {1s, 24h}, .hot = true});
  schema.add("penalty.block_for", &penalty.block_for,
             {.help = "How long an address is refused. Callers whose token was verified before still pass.",
              .example = "1h",
              .range = {1s, 24h},
              .hot = true});
  schema.add("trusted_proxies", &config.trusted_proxies,
             {.help = "Networks or addresses of proxies whose X-Forwarded-For (from the right) and PROXY "
                      "protocol tell the caller's address.",
              .example = "10.0.0.0/8",
              .check = [](std::string_view text) -> std::string {
                const auto parsed = tunnel::TrustedProxies::parse({std::string(text)});
                return parsed ? "" : "must be an address or a network, e.g. 10.0.0.0/8 or 2001:db8::/32";
              }});
  schema.add("proxy_protocol", &config.proxy_protocol,
             {.help = "Trusted proxies begin each connection with a PROXY protocol header, version 2.",
              .example = "false"});
  schema.add_bytes("queue.bytes", &config.queue.total_bytes,
                   {.help = "Memory of all requests that wait for a channel; one principal gets a quarter.",
                    .example = "64MiB",
                    .range = {1024 * 1024, std::int64_t{16} * 1024 * 1024 * 1024},
                    .hot = true});
  schema.add("queue.upstream_wait", &config.upstream_wait,
             {.help = "How long requests wait for an upstream that cannot be reached, for it may be "
                      "restarting. 0s: they fail at once.",
              .example = "2s",
              .range = {0s, 10min}});
  auto& breaker = config.breaker;
  schema.add("breaker.failures", &breaker.failures,
             {.help = "Failures in a row that open the circuit of a principal to a service.",
              .example = "5",
              .range = {1, 1000},
              .hot = true,
              .old_names = {{"CB_FAILURE_THRESHOLD", ""}}});
  schema.add("breaker.successes", &breaker.successes,
             {.help = "Probes in a row that must succeed to close it.",
              .example = "2",
              .range = {1, 100},
              .hot = true,
              .old_names = {{"CB_SUCCESS_THRESHOLD", ""}}});
  schema.add(
      "breaker.reset", &breaker.reset,
      {.help = "How long an open circuit refuses before the first probe; doubles with each that fails.",
       .example = "60s",
       .range = {100ms, 1h},
       .hot = true,
       .old_names = {{"CB_RESET_TIMEOUT", "ms"}}});
  schema.add("breaker.max_reset", &breaker.max_reset,
             {.help = "The longest that breaker.reset doubles to.",
              .example = "10m",
              .range = {100ms, 24h},
              .hot = true});
}

void bind_records(config::Schema& schema, Config& config) {
  auto& audit = config.audit;
  schema.add("audit.enabled", &audit.enabled,
             {.help = "Keep the audit log (tunnelctl audit verify checks it).", .example = "true"});
  schema.add("audit.directory", &audit.directory,
             {.help = "Directory of the audit log. Empty: audit in the state directory.",
              .example = "/var/log/tunneld/audit"});
  schema.add_enum("audit.on_error", &audit.on_error,
                  {{"continue", audit::OnError::go_on}, {"refuse", audit::OnError::refuse}},
                  {.help = "While audit lines cannot be written: go on serving and count them, or refuse "
                           "everything new.",
                   .example = "continue",
                   .hot = true});
  schema.add("audit.requests", &audit.requests,
             {.help = "A line for every request and stream too, not only for decisions and changes.",
              .example = "true",
              .hot = true});
  schema.add_bytes("audit.max_file_bytes", &audit.max_file_bytes,
                   {.help = "An audit file of this size is closed and a new one begun.",
                    .example = "100MiB",
                    .range = {64 * 1024, std::int64_t{16} * 1024 * 1024 * 1024},
                    .hot = true});
  schema.add(
      "audit.files", &audit.files,
      {.help = "Closed audit files that are kept.", .example = "10", .range = {1, 10'000}, .hot = true});
  schema.add("audit.retention", &audit.retention,
             {.help = "Closed audit files older than this are deleted.",
              .example = "90d",
              .range = {1h, 24h * 3650},
              .hot = true});
  schema.add("audit.flush", &audit.flush,
             {.help = "Audit lines are on disk this late at most.",
              .example = "500ms",
              .range = {10ms, 1s},
              .hot = true});
  schema.add_bytes("events.bytes", &config.events_bytes,
                   {.help = "Disk for the log of events in the state directory.",
                    .example = "16MiB",
                    .range = {64 * 1024, std::int64_t{1} * 1024 * 1024 * 1024}});
  auto& tracing = config.tracing;
  schema.add("tracing.endpoint", &tracing.endpoint,
             {.help = "Where traces go by OTLP over HTTP. Empty: no tracing.",
              .example = "http://127.0.0.1:4318/v1/traces"});
  schema.add("tracing.sample_percent", &tracing.sample_percent,
             {.help = "How many of the traces that begin here are kept; a caller's sampled trace always is.",
              .example = "10",
              .range = {0, 100},
              .hot = true});
  schema.add("tracing.headers_file", &tracing.headers_file,
             {.help = "File with one \"Name: value\" a line for the collector, mode 0640 or narrower.",
              .example = "/etc/tunneld/otlp_headers"});
}

void bind_ssh(config::Schema& schema, Config& config) {
  auto& ssh = config.ssh;
  schema.add("ssh.keepalive", &ssh.keepalive,
             {.help = "Pause between keepalives on an SSH session.", .example = "60s", .range = {1s, 1h}});
  schema.add(
      "ssh.keepalive_reply", &ssh.keepalive_reply,
      {.help = "How long the answer to a keepalive may take.", .example = "15s", .range = {100ms, 10min}});
  schema.add(
      "ssh.keepalive_misses", &ssh.keepalive_misses,
      {.help = "Unanswered keepalives after which a session is dead.", .example = "2", .range = {1, 10}});
  schema.add("ssh.max_channels", &ssh.max_channels,
             {.help = "Channels per SSH session; the next one opens a further session.",
              .example = "10",
              .range = {1, 100}});
  schema.add(
      "ssh.max_sessions", &config.ssh_max_sessions,
      {.help = "SSH sessions per principal, upstream and thread.", .example = "8", .range = {1, 1000}});
  schema.add("ssh.connect_timeout", &ssh.connect_timeout,
             {.help = "TCP connect to one address of an upstream.", .example = "5s", .range = {100ms, 2min}});
  schema.add("ssh.handshake_timeout", &ssh.handshake_timeout,
             {.help = "SSH banner to the end of authentication.", .example = "20s", .range = {100ms, 2min}});
  schema.add("ssh.whole_packet_gcm", &ssh.whole_packet_gcm,
             {.help = "Decrypt and encrypt SSH packets in one call. Off only to look for an error.",
              .example = "true"});
  schema.add("ssh.concurrent_opens", &ssh.concurrent_opens,
             {.help = "Open channels of one session side by side. Off only to look for an error.",
              .example = "true"});
}

void bind_service(config::Schema& item, UpstreamConfig::ServiceConfig& service) {
  item.add(
      "name", &service.name,
      {.help = "What callers write: /t/<name>/.", .example = "web", .required = true, .check = check_name});
  item.add("target", &service.target,
           {.help = "host:port as the far side resolves it.",
            .example = "127.0.0.1:8080",
            .required = true,
            .check = check_far_address});
  item.add("allow", &service.allow,
           {.help = "Who may use it: \"*\", sub:<subject>, tier:<tier>, scope:<scope>. Empty: nobody.",
            .example = "sub:alice, tier:enterprise"});
}

void bind_upstream(config::Schema& item, UpstreamConfig& upstream) {
  item.add(
      "name", &upstream.name,
      {.help = "Name in logs and messages.", .example = "office", .required = true, .check = check_name});
  item.add("address", &upstream.addresses,
           {.help = "host:port of the sshd; with several the next is tried when one does not answer.",
            .example = "10.0.0.5:22",
            .required = true,
            .check = check_far_address});
  item.add("user", &upstream.user,
           {.help = "User to log in as.", .example = "tunnel", .required = true, .check = check_user});
  item.add(
      "identity_file", &upstream.identity_file,
      {.help = "Private key to log in with. Empty: tunneld's own (tunneld ssh-key prints its public half).",
       .example = "/etc/tunneld/office_key"});
  item.add(
      "known_hosts_file", &upstream.known_hosts_file,
      {.help = "OpenSSH known_hosts file with the sshd's host key.", .example = "/etc/tunneld/known_hosts"});
  item.add("host_key_fingerprint", &upstream.host_key_fingerprints,
           {.help = "Pinned host key as ssh-keygen -l prints it; any of several is right.",
            .example = "SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKZIDTMczCvj3tD2s",
            .check = check_fingerprint_text});
  item.add("trust_on_first_use", &upstream.trust_on_first_use,
           {.help = "Record an unknown host key on first contact. Whoever answers first is believed.",
            .example = "false"});
  item.add_list<UpstreamConfig::ServiceConfig>(
      "services", &upstream.services, bind_service,
      {.help = "What can be reached behind this sshd.", .unique = "name"});
}

using Problems = std::vector<std::string>;

void check_listeners(const Config& config, Problems& problems) {
  if (config.listen.empty() && config.plaintext_listen.empty())
    problems.emplace_back("listen: empty, and plaintext_listen too: nobody could connect");
  if (!is_loopback(parse_host_port(config.admin_listen)->host))
    problems.push_back(
        "admin_listen: " + config.admin_listen +
        " is not loopback; metrics and diagnostics are open there. Use 127.0.0.1:9090 and reach it by "
        "ssh -L or a proxy that authenticates");
  for (const auto& address : config.plaintext_listen)
    if (!config.plaintext_trusted_network && !is_loopback(parse_host_port(address)->host))
      problems.push_back("plaintext_listen: " + address +
                         " is not loopback; tokens would cross the network unencrypted. Use listen, or set "
                         "plaintext_trusted_network: true");
  std::map<std::string, std::string> taken;
  const auto take = [&](const std::string& address, const std::string& key) {
    if (parse_host_port(address)->port == 0) return;  // any free port
    const auto [first, fresh] = taken.emplace(address, key);
    if (!fresh) problems.push_back(key + ": " + address + " is used by " + first->second + " already");
  };
  for (const auto& address : config.listen) take(address, "listen");
  for (const auto& address : config.plaintext_listen) take(address, "plaintext_listen");
  take(config.admin_listen, "admin_listen");
}

void check_upstream(const UpstreamConfig& upstream, const std::string& issuer, Problems& problems,
                    std::map<std::string, std::string>& service_owner) {
  const auto where = "upstreams." + upstream.name + ".";
  const bool file = !upstream.known_hosts_file.empty();
  const bool pinned = !upstream.host_key_fingerprints.empty();
  if (!file && !pinned && !upstream.trust_on_first_use)
    problems.push_back(
        where +
        "known_hosts_file: neither this nor host_key_fingerprint is set, so no host key could be "
        "verified. Copy the fingerprint that `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` "
        "prints on that machine");
  if (pinned && (file || upstream.trust_on_first_use))
    problems.push_back(where + "host_key_fingerprint: excludes known_hosts_file and trust_on_first_use");
  for (const auto& service : upstream.services) {
    const auto [first, fresh] = service_owner.emplace(service.name, upstream.name);
    if (!fresh && first->second != upstream.name)
      problems.push_back(where + "services: " + service.name + " is a service of upstream " + first->second +
                         " already; names are unique over all upstreams");
    if (auto list = access::AllowList::parse(service.allow, issuer); !list)
      problems.push_back(where + "services." + service.name + ".allow: " + list.error().message);
  }
}

}  // namespace

std::optional<HostPort> parse_host_port(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto host = text.substr(0, colon);
  const auto digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size() || digits.empty()) return std::nullopt;
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == std::string_view::npos) return std::nullopt;
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;  // an IPv6 address without its brackets
  }
  const bool printable = std::all_of(host.begin(), host.end(),
                                     [](char c) { return c > ' ' && c < 0x7f && c != '/' && c != '@'; });
  if (host.empty() || host.size() > 253 || !printable) return std::nullopt;
  return HostPort{std::string(host), port};
}

bool is_loopback(const std::string& host) {
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(host, error);
  return error ? host == "localhost" : address.is_loopback();
}

void bind(config::Schema& schema, Config& config) {
  bind_listeners(schema, config);
  bind_tls_and_auth(schema, config);
  bind_limits(schema, config);
  bind_tiers(schema, config);
  bind_links(schema, config);
  bind_protection(schema, config);
  bind_ssh(schema, config);
  bind_records(schema, config);
  schema.add_list<UpstreamConfig>(
      "upstreams", &config.upstreams, bind_upstream,
      {.help = "The sshds that tunneld dials, and the services behind them.", .unique = "name"});
  using logging::Format;
  using logging::Level;
  schema.add_enum("log.level", &config.log.level,
                  {{"ERROR", Level::error},
                   {"WARN", Level::warn},
                   {"INFO", Level::info},
                   {"DEBUG", Level::debug},
                   {"TRACE", Level::trace}},
                  {.help = "How much is logged. Each request and stream is one line at INFO.",
                   .example = "INFO",
                   .hot = true,
                   .old_names = {{"LOG_LEVEL", ""}}});
  schema.add_enum("log.format", &config.log.format,
                  {{"auto", Format::automatic}, {"json", Format::json}, {"text", Format::text}},
                  {.help = "auto: text on a terminal, else one JSON object a line.", .example = "json"});
  schema.add("log.output", &config.log.output,
             {.help = "stdout, stderr or a file. SIGHUP opens a file anew, for logrotate.",
              .example = "/var/log/tunneld/tunneld.log"});
  schema.add("log.instance_id", &config.log.instance_id,
             {.help = "instanceId of each log line. Empty: the host's name.", .example = "edge-1"});
  // Read by the command line, not by the schema.
  schema.allow_variable("TUNNELD_CONFIG");
}

Result<void> check(Config& config) {
  Problems problems;
  check_listeners(config, problems);
  if (config.tls.certificate_file.empty() != config.tls.key_file.empty())
    problems.emplace_back("tls.certificate_file: set it together with tls.key_file, or neither");
  if (auto auth = access::validated(config.auth); auth)
    config.auth = *auth;
  else
    problems.push_back(auth.error().message);
  if (config.ws.dead_after <= config.ws.ping_interval)
    problems.emplace_back(
        "ws.dead_after: must be longer than ws.ping_interval, else every quiet peer is dead");
  if (config.limits.header_line_bytes > config.limits.header_bytes)
    problems.emplace_back("limits.header_line_bytes: larger than limits.header_bytes");
  if (config.ws.warn_frame > config.ws.max_frame) config.ws.warn_frame = config.ws.max_frame;
  if (config.limits.penalty.block_after <= config.limits.penalty.throttle_after)
    problems.emplace_back("penalty.block_after: must be more than penalty.throttle_after");
  if (config.breaker.max_reset < config.breaker.reset)
    problems.emplace_back("breaker.max_reset: must not be shorter than breaker.reset");
  if (config.proxy_protocol && config.trusted_proxies.empty())
    problems.emplace_back("proxy_protocol: names no one to believe; set trusted_proxies");
  if (!config.tracing.endpoint.empty() && !config.tracing.endpoint.starts_with("http://") &&
      !config.tracing.endpoint.starts_with("https://"))
    problems.emplace_back(
        "tracing.endpoint: must be a URL such as http://127.0.0.1:4318/v1/traces (OTLP over HTTP)");
  std::map<std::string, std::string> service_owner;
  for (const auto& upstream : config.upstreams)
    check_upstream(upstream, config.auth.issuer, problems, service_owner);

  if (problems.empty()) return {};
  std::string message;
  for (const auto& problem : problems) message += (message.empty() ? "" : "\n") + problem;
  return fail(Error::Kind::bad_input, message);
}

namespace {

/// The schema's path of the key that a problem begins with: "upstreams.lab.user: …" is upstreams[0].user.
std::string path_of(const std::string& problem, const Config& config) {
  std::string path = problem.substr(0, problem.find(": "));
  for (std::size_t i = 0; i < config.upstreams.size(); ++i) {
    const auto prefix = "upstreams." + config.upstreams[i].name + ".";
    if (path.starts_with(prefix)) return "upstreams[" + std::to_string(i) + "]." + path.substr(prefix.size());
  }
  return path;
}

}  // namespace

Result<std::unique_ptr<Configuration>> load_config(const std::optional<std::filesystem::path>& file,
                                                   const std::vector<std::string>& overrides) {
  config::Sources sources;
  if (file) {
    auto text = config::read_file(*file);
    if (!text) return tl::unexpected(text.error());
    sources.file_name = file->string();
    sources.file_text = std::move(*text);
  }
  sources.environment = config::process_environment();
  sources.overrides = overrides;
  auto loaded = std::make_unique<Configuration>();
  auto warnings = loaded->schema.load(sources);
  if (!warnings) return tl::unexpected(warnings.error());
  loaded->warnings = std::move(*warnings);
  if (auto good = check(loaded->values); !good) {
    // What only shows between settings is told like the rest: file:line: key: what is wrong.
    std::string message;
    std::istringstream problems(good.error().message);
    for (std::string problem; std::getline(problems, problem);) {
      auto origin = loaded->schema.origin(path_of(problem, loaded->values));
      if (origin.empty() && file) origin = file->string();
      message += (message.empty() ? "" : "\n") + origin + (origin.empty() ? "" : ": ") + problem;
    }
    return fail(Error::Kind::bad_input, message);
  }
  return loaded;
}

std::vector<tunnel::Service> services_of(const Config& config) {
  std::vector<tunnel::Service> services;
  for (const auto& upstream : config.upstreams)
    for (const auto& service : upstream.services) {
      auto target = *parse_host_port(service.target);
      services.push_back({service.name, upstream.name, std::move(target.host), target.port, service.allow});
    }
  return services;
}

}  // namespace tunneld
