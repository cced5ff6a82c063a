#include "tunnelctl/monitor/apply.h"

#include <algorithm>

#include "tunnelctl/monitor/write.h"

namespace tunnelctl::monitor {
namespace {

using grafana::Answer;
using grafana::Call;

bool parallel(const Change& change) {
  return change.wanted.key.kind == Kind::dashboard || change.wanted.key.kind == Kind::rule_group;
}

std::string called(const Change& change) {
  return std::string(name(change.wanted.key.kind)) + " " + change.wanted.title + " (" + change.wanted.key.id +
         ")";
}

class Application {
 public:
  Application(grafana::Server& server, const Plan& plan, const ApplyOptions& options, std::stop_token stop)
      : server_(server), plan_(plan), options_(options), stop_(std::move(stop)) {}

  tl::expected<Applied, Failure> run() {
    const auto& changes = plan_.changes;
    for (std::size_t at = 0; at < changes.size() && !cause_;) {
      std::size_t end = at + 1;
      // A batch of one kind and action; small, so that a failure stops the rest soon.
      while (end < changes.size() && end - at < 4 * options_.parallel && parallel(changes[at]) &&
             parallel(changes[end]) && changes[end].wanted.key.kind == changes[at].wanted.key.kind &&
             changes[end].action == changes[at].action)
        ++end;
      if (stop_.stop_requested())
        cause_ = Error{Error::Kind::cancelled, "stopped before the end"};
      else
        write(at, end);
      at = end;
    }
    if (!cause_) return Applied{writes_};
    Failure failure{.cause = std::move(*cause_)};
    server_.ignore_stop();
    restore(failure);
    return tl::unexpected(std::move(failure));
  }

 private:
  void write(std::size_t begin, std::size_t end) {
    if (plan_.changes[begin].wanted.key.kind == Kind::routes) {
      write_own_routes(begin);
      return;
    }
    std::vector<Call> calls;
    for (std::size_t i = begin; i < end; ++i) {
      remember_secrets(plan_.changes[i]);
      calls.push_back(*request(plan_.changes[i], options_));
    }
    server_.calls(calls, [&](std::size_t i, Result<Answer> answer) {
      const Change& change = plan_.changes[begin + i];
      if (!answer) {
        // It may have been carried out all the same, so it is put back, too.
        if (answer.error().kind != Error::Kind::cancelled ||
            answer.error().message.find("may have") != std::string::npos)
          written_.push_back(&change);
        note(change, answer.error());
        return;
      }
      const bool gone = change.action == Action::remove && answer->status == 404;
      if (!answer->ok() && !gone) {
        if (answer->status >= 500) written_.push_back(&change);
        note(change, explain(change, calls[i], *answer));
        return;
      }
      ++writes_;
      written_.push_back(&change);
      if (change.wanted.key.kind == Kind::dashboard && change.action != Action::remove &&
          answer->json.is_object() && answer->json.value("uid", "") != change.wanted.key.id) {
        note(change, {Error::Kind::bug,
                      "the server saved it as another dashboard, uid " + answer->json.value("uid", "")});
        return;
      }
      if (options_.done) options_.done(change);
    });
  }

  void write_own_routes(std::size_t at) {
    const Change& change = plan_.changes[at];
    const Json expected = change.action == Action::create ? Json() : change.before.content;
    const Json subtree = change.action == Action::remove ? Json() : change.wanted.content;
    auto done = write_routes(server_, change.wanted.key.id, subtree, expected, options_.editable);
    if (!done) {
      written_.push_back(&change);
      note(change, done.error());
      return;
    }
    ++writes_;
    written_.push_back(&change);
    if (options_.done) options_.done(change);
  }

  Error explain(const Change& change, const Call& call, const Answer& answer) const {
    Error error = server_.error(call, answer);
    if (answer.status == 412 || answer.status == 409)
      error.message += "; " + called(change) + " was changed by someone else since the plan: run it again";
    return error;
  }

  void note(const Change& change, Error error) {
    if (!cause_) cause_ = Error{error.kind, called(change) + ": " + error.message};
  }

  /// Before a contact point goes: the one moment in which its secrets can still be read, by those who may.
  void remember_secrets(const Change& change) {
    if (change.action != Action::remove || change.wanted.key.kind != Kind::contact_point) return;
    if (change.before.raw.dump().find(kRedacted) == std::string::npos) return;
    const std::string name = change.before.raw.value("name", "");
    const auto answer =
        server_.call({.path = "/api/v1/provisioning/contact-points/export?format=json&decrypt=true&name=" +
                              grafana::escape(name)});
    if (!answer || !answer->ok() || !answer->json.is_object()) return;
    for (const Json& point : answer->json.value("contactPoints", Json::array()))
      for (const Json& receiver : point.value("receivers", Json::array()))
        if (receiver.value("uid", "") == change.wanted.key.id)
          secret_settings_[change.wanted.key.id] = receiver.value("settings", Json::object());
  }

  void restore(Failure& failure) {
    for (auto one = written_.rbegin(); one != written_.rend(); ++one) {
      const Change& change = **one;
      const auto done = put_back(change);
      if (done)
        failure.restored.push_back(called(change));
      else
        failure.left.push_back(
            called(change) + ": " + done.error().message + "; look: " + inspection(change.wanted.key) +
            (change.action == Action::create ? "; it was made by this run and can be deleted"
                                             : "; finish with: tunnelctl monitor setup"));
    }
  }

  Result<void> put_back(const Change& change) {
    if (change.wanted.key.kind == Kind::routes) {
      const Json subtree = change.action == Action::create ? Json() : change.before.raw;
      return write_routes(server_, change.wanted.key.id, subtree, std::nullopt,
                          change.before.provenance.empty());
    }
    Call call = *restoring(change);
    if (change.wanted.key.kind == Kind::folder && change.action == Action::create) {
      // Deleting a folder deletes what is in it, and that may be somebody else's by now.
      auto inside = server_.get("/api/search?limit=1&folderUIDs=" + grafana::escape(change.wanted.key.id));
      if (!inside) return tl::unexpected(inside.error());
      if (inside->is_array() && !inside->empty())
        return fail(Error::Kind::bad_input, "the folder holds something that this run did not make");
    }
    if (change.wanted.key.kind == Kind::contact_point && change.action == Action::remove) {
      const auto known = secret_settings_.find(change.wanted.key.id);
      if (known != secret_settings_.end())
        call.body["settings"] = known->second;
      else if (change.before.raw.dump().find(kRedacted) != std::string::npos)
        return fail(Error::Kind::denied, "its secret cannot be read back with these credentials");
    }
    auto answer = server_.call(call);
    if (!answer) return tl::unexpected(answer.error());
    const bool gone = call.method == "DELETE" && answer->status == 404;
    if (!answer->ok() && !gone) return tl::unexpected(server_.error(call, *answer));
    if (change.action != Action::create && !change.wanted.secrets.empty())
      return fail(Error::Kind::denied, "restored but for its secrets, whose old values cannot be read");
    return {};
  }

  grafana::Server& server_;
  const Plan& plan_;
  const ApplyOptions& options_;
  std::stop_token stop_;
  std::vector<const Change*> written_;
  std::map<std::string, Json> secret_settings_;
  std::optional<Error> cause_;
  std::size_t writes_ = 0;
};

}  // namespace

tl::expected<Applied, Failure> apply(grafana::Server& server, const Plan& plan, const ApplyOptions& options,
                                     std::stop_token stop) {
  return Application(server, plan, options, std::move(stop)).run();
}

}  // namespace tunnelctl::monitor
