#include "common/http_client.h"

#include <curl/curl.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>
#include <random>
#include <utility>

#include "common/http_exchange.h"
#include "common/http_tls_files.h"

namespace http {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Connections that are kept, and handles to use again. One call at a time.
struct Engine {
  explicit Engine(std::size_t max_in_flight) : multi(::curl_multi_init()) {
    if (multi == nullptr) throw std::bad_alloc();
    ::curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, static_cast<long>(max_in_flight));
    ::curl_multi_setopt(multi, CURLMOPT_PIPELINING, long{CURLPIPE_NOTHING});
  }
  ~Engine() {
    spare.clear();
    ::curl_multi_cleanup(multi);
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  CURLM* multi;
  std::vector<std::unique_ptr<Exchange>> spare;
};

/// The requests of one call, from first to last.
class Run {
 public:
  Run(Engine& engine, const ClientOptions& options, std::span<const Request> requests,
      const Client::Done& done, std::stop_token stop)
      : engine_(engine), options_(options), requests_(requests), done_(done), stop_(std::move(stop)) {}
  /// Attempts are still under way if `done` has thrown.
  ~Run() {
    for (Job& job : jobs_) retire(job);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void go() {
    const std::stop_callback wake(stop_, [this] { ::curl_multi_wakeup(engine_.multi); });
    for (;;) {
      if (stop_.stop_requested()) return cancel_all();
      begin_more();
      if (jobs_.empty()) return;
      perform();
      if (!collect()) ::curl_multi_poll(engine_.multi, nullptr, 0, longest_wait(), nullptr);
    }
  }

 private:
  struct Job {
    std::size_t index = 0;
    std::unique_ptr<Exchange> exchange;
    Clock::time_point began;
    unsigned attempts = 0;
    bool running = false;
    bool uncertain = false;         // an attempt broke off after it was sent
    Clock::time_point resume_at{};  // while not running
  };

  void begin_more() {
    const auto now = Clock::now();
    for (std::size_t i = 0; i < jobs_.size();) {
      // An attempt that cannot begin ends its job and takes it out.
      if (jobs_[i].running || jobs_[i].resume_at > now || begin(jobs_[i])) ++i;
    }
    while (next_ < requests_.size() && jobs_.size() < std::max<std::size_t>(options_.max_in_flight, 1)) {
      if (stop_.stop_requested()) return;
      Job job;
      job.index = next_++;
      job.began = now;
      if (engine_.spare.empty()) {
        job.exchange = std::make_unique<Exchange>();
      } else {
        job.exchange = std::move(engine_.spare.back());
        engine_.spare.pop_back();
      }
      jobs_.push_back(std::move(job));
      begin(jobs_.back());
    }
  }

  milliseconds left(const Job& job) const {
    if (requests_[job.index].streaming) return milliseconds::max();
    return std::chrono::duration_cast<milliseconds>(job.began + options_.total - Clock::now());
  }

  bool begin(Job& job) {
    const Request& request = requests_[job.index];
    const auto deadline = std::min(request.deadline.value_or(options_.deadline), left(job));
    if (auto ready = job.exchange->prepare(request, options_, deadline); !ready) {
      end(job, tl::unexpected(std::move(ready.error())));
      return false;
    }
    ++job.attempts;
    if (::curl_multi_add_handle(engine_.multi, job.exchange->handle()) != CURLM_OK) {
      end(job, fail(Error::Kind::bug, shown(request) + ": libcurl refused the request"));
      return false;
    }
    job.running = true;
    return true;
  }

  void perform() {
    int running = 0;
    ::curl_multi_perform(engine_.multi, &running);
  }

  /// Whether any attempt has ended, so that others may begin.
  bool collect() {
    bool any = false;
    int queued = 0;
    while (const CURLMsg* message = ::curl_multi_info_read(engine_.multi, &queued)) {
      if (message->msg != CURLMSG_DONE) continue;
      any = true;
      // Gone with the handle's removal.
      const CURLcode code = message->data.result;
      CURL* const handle = message->easy_handle;
      const auto job = std::find_if(jobs_.begin(), jobs_.end(),
                                    [&](const Job& each) { return each.exchange->handle() == handle; });
      { ::curl_multi_remove_handle(engine_.multi, handle); }
      job->running = false;
      const bool sent = !job->exchange->nothing_sent();
      Outcome outcome = job->exchange->finish(code);
      job->uncertain = job->uncertain || (sent && !outcome.answer);
      settle(*job, std::move(outcome));
    }
    return any;
  }

  void settle(Job& job, Outcome outcome) {
    const bool allowed = outcome.repeat == Repeat::always ||
                         (outcome.repeat == Repeat::if_safe && is_safe(requests_[job.index]));
    if (allowed && job.attempts < options_.retry.attempts) {
      if (const auto pause = pause_for(job, outcome); pause && *pause < left(job)) {
        job.resume_at = Clock::now() + *pause;
        return;
      }
    }
    if (outcome.answer)
      outcome.answer->attempts = job.attempts;
    else
      explain(outcome.answer.error(), job);
    end(job, std::move(outcome.answer));
  }

  /// An answer, even one that asks to try again, leaves no doubt; but what came before it may.
  void explain(Error& error, const Job& job) const {
    const std::string& method = requests_[job.index].method;
    if (job.uncertain && method != "GET" && method != "HEAD") error.message += "; it may have taken effect";
    if (job.attempts > 1) error.message += " (after " + std::to_string(job.attempts) + " attempts)";
  }

  std::optional<milliseconds> pause_for(const Job& job, const Outcome& outcome) {
    std::optional<milliseconds> asked;
    if (outcome.answer) {
      const std::string* wait = outcome.answer->header("Retry-After");
      const std::string* date = outcome.answer->header("Date");
      if (wait) asked = retry_after(*wait, date ? *date : "", std::chrono::system_clock::now());
    }
    return pause_after(job.attempts, options_.retry, asked, std::uniform_real_distribution<>()(random_));
  }

  /// `job` is gone afterwards.
  void end(Job& job, Result<Response> answer) {
    const std::size_t index = job.index;
    retire(job);
    jobs_.erase(jobs_.begin() + (&job - jobs_.data()));
    done_(index, std::move(answer));
  }

  void retire(Job& job) {
    if (job.running) {
      ::curl_multi_remove_handle(engine_.multi, job.exchange->handle());
      job.running = false;
    }
    engine_.spare.push_back(std::move(job.exchange));
  }

  void cancel_all() {
    while (!jobs_.empty()) {
      Job& job = jobs_.front();
      job.uncertain = job.uncertain || (job.running && !job.exchange->nothing_sent());
      Error error = job.exchange->cancelled();
      explain(error, job);
      end(job, tl::unexpected(std::move(error)));
    }
    while (next_ < requests_.size()) {
      const std::size_t index = next_++;
      done_(index, fail(Error::Kind::cancelled, shown(requests_[index]) + ": cancelled"));
    }
  }

  int longest_wait() const {
    milliseconds wait(10'000);  // libcurl's own time limits and a stop end it sooner
    for (const Job& job : jobs_) {
      // libcurl looks at its clock for us only when it is called.
      if (const auto& streaming = requests_[job.index].streaming)
        wait = std::min(wait, std::clamp(streaming->longest_silence, milliseconds(10), milliseconds(1'000)));
      if (job.running) continue;
      // Up, or the last fraction of a millisecond would be spent in circles.
      wait = std::min(wait, std::chrono::ceil<milliseconds>(job.resume_at - Clock::now()));
    }
    return static_cast<int>(std::max(wait.count(), milliseconds::rep{0}));
  }

  Engine& engine_;
  const ClientOptions& options_;
  const std::span<const Request> requests_;
  const Client::Done& done_;
  const std::stop_token stop_;
  std::vector<Job> jobs_;
  std::size_t next_ = 0;
  std::minstd_rand random_{std::random_device{}()};
};

std::string from_environment(const char* small, const char* large) {
  for (const char* name : {small, large}) {
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
  }
  return {};
}

/// Without the proxy's URL, which may hold a password.
Result<void> check_proxy(const std::string& url, const char* name) {
  if (url.empty()) return {};
  const std::unique_ptr<CURLU, decltype(&::curl_url_cleanup)> parsed(::curl_url(), &::curl_url_cleanup);
  char* scheme = nullptr;
  const bool good = parsed &&
                    ::curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(),
                                   CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
                    ::curl_url_get(parsed.get(), CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK;
  const std::string found = good ? scheme : "";
  ::curl_free(scheme);
  for (const char* known : {"http", "https", "socks4", "socks4a", "socks5", "socks5h"}) {
    if (found == known) return {};
  }
  return fail(Error::Kind::bad_input,
              std::string(name) + ": not the URL of a proxy; expected http://[user:password@]host:port");
}

}  // namespace

struct Client::Impl {
  /// Puts the engine back, its connections with it.
  class Lease {
   public:
    explicit Lease(Impl& from) : from_(from) {
      const std::lock_guard lock(from.mutex);
      if (!from.idle.empty()) {
        engine_ = std::move(from.idle.back());
        from.idle.pop_back();
      }
      if (!engine_) engine_ = std::make_unique<Engine>(from.options.max_in_flight);
    }
    ~Lease() {
      const std::lock_guard lock(from_.mutex);
      from_.idle.push_back(std::move(engine_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Engine& operator*() { return *engine_; }

   private:
    Impl& from_;
    std::unique_ptr<Engine> engine_;
  };

  ClientOptions options;
  std::mutex mutex;
  std::vector<std::unique_ptr<Engine>> idle;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::make(ClientOptions options) {
  if (!start_curl()) return fail(Error::Kind::bug, "libcurl does not start");
  if (!options.tls.ca) {
    // As OpenSSL's own programs do.
    if (auto file = from_environment("SSL_CERT_FILE", "SSL_CERT_FILE"); !file.empty()) options.tls.ca = file;
  }
  if (auto good = check(options.tls); !good) return tl::unexpected(good.error());
  if (!options.proxies) options.proxies = Proxies::from_environment();
  if (auto good = check_proxy(options.proxies->for_https, "HTTPS_PROXY"); !good)
    return tl::unexpected(good.error());
  if (auto good = check_proxy(options.proxies->for_http, "HTTP_PROXY"); !good)
    return tl::unexpected(good.error());
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  return Client(std::move(impl));
}

Result<Response> Client::send(const Request& request, std::stop_token stop) const {
  Result<Response> got;
  send_all(
      {&request, 1}, [&](std::size_t, Result<Response> answer) { got = std::move(answer); }, std::move(stop));
  return got;
}

void Client::send_all(std::span<const Request> requests, const Done& done, std::stop_token stop) const {
  Impl::Lease engine(*impl_);
  Run(*engine, impl_->options, requests, done, std::move(stop)).go();
}

Proxies Proxies::from_environment() {
  return {http::from_environment("https_proxy", "HTTPS_PROXY"),
          http::from_environment("http_proxy", "HTTP_PROXY"), http::from_environment("no_proxy", "NO_PROXY")};
}

std::string shown(const Request& request) {
  return request.method + " " + shown_url(request.url);
}

const std::string* Response::header(std::string_view name) const {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  for (const Header& each : headers) {
    if (std::equal(each.name.begin(), each.name.end(), name.begin(), name.end(),
                   [&](char a, char b) { return lower(a) == lower(b); })) {
      return &each.value;
    }
  }
  return nullptr;
}

std::string new_correlation_id() {
  std::array<unsigned char, 16> bytes{};
  if (::RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) return {};
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const unsigned char byte : bytes) out += {kDigits[byte >> 4], kDigits[byte & 15]};
  return out;
}

std::string library_version() {
  return ::curl_version_info(CURLVERSION_NOW)->version;
}

}  // namespace http
