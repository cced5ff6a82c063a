#include "tunnelctl/monitor/apply.h"

#include <algorithm>
#include <map>
#include <set>

#include "tunnelctl/monitor/write.h"

namespace tunnelctl::monitor {
namespace {

using grafana::Answer;
using grafana::Call;

std::set<std::string> rule_uids(const Json& group) {
  std::set<std::string> uids;
  if (group.is_object())
    for (const Json& rule : group.value("rules", Json::array())) uids.insert(rule.value("uid", ""));
  return uids;
}

/// Whether a rule leaves one group for another. Written at the same time, Grafana refuses one of the two.
bool rules_move(const Plan& plan) {
  std::map<std::string, std::string> homes;
  for (const Change& change : plan.changes)
    if (change.wanted.key.kind == Kind::rule_group)
      for (const auto& uid : rule_uids(change.before.content)) homes.emplace(uid, change.wanted.key.id);
  return std::any_of(plan.changes.begin(), plan.changes.end(), [&](const Change& change) {
    if (change.wanted.key.kind != Kind::rule_group || change.action == Action::remove) return false;
    const auto uids = rule_uids(change.wanted.content);
    return std::any_of(uids.begin(), uids.end(), [&](const std::string& uid) {
      const auto home = homes.find(uid);
      return home != homes.end() && home->second != change.wanted.key.id;
    });
  });
}

std::string called(const Change& change) {
  return std::string(name(change.wanted.key.kind)) + " " + change.wanted.title + " (" + change.wanted.key.id +
         ")";
}

class Application {
 public:
  Application(grafana::Server& server, const Plan& plan, const ApplyOptions& options, std::stop_token stop)
      : server_(server),
        plan_(plan),
        options_(options),
        stop_(std::move(stop)),
        rules_move_(rules_move(plan)) {}

  tl::expected<Applied, Failure> run() {
    // A write that is given up on its way may still arrive, after it was put back. So each has its answer,
    // and the stop is looked at between them.
    server_.ignore_stop();
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
    if (!cause_ && stop_.stop_requested()) cause_ = Error{Error::Kind::cancelled, "stopped at the end"};
    if (!cause_) return Applied{writes_};
    Failure failure{.cause = std::move(*cause_)};
    restore(failure);
    return tl::unexpected(std::move(failure));
  }

 private:
  bool parallel(const Change& change) const {
    return change.wanted.key.kind == Kind::dashboard ||
           (change.wanted.key.kind == Kind::rule_group && !rules_move_);
  }

  void write(std::size_t begin, std::size_t end) {
    if (plan_.changes[begin].wanted.key.kind == Kind::routes) {
      write_own_routes(begin);
      return;
    }
    if (!still_as_planned(begin, end)) return;
    std::vector<Call> calls;
    for (std::size_t i = begin; i < end; ++i) {
      remember_secrets(plan_.changes[i]);
      calls.push_back(*request(plan_.changes[i], options_));
    }
    server_.calls(calls, [&](std::size_t i, Result<Answer> answer) {
      const Change& change = plan_.changes[begin + i];
      if (!answer) {
        // It may have been carried out all the same, so it is put back, too; "denied" was never sent.
        if (answer.error().kind != Error::Kind::denied) written_.push_back(&change);
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

  /// Of one kind. Leaves but the moment between this look and the write.
  bool still_as_planned(std::size_t begin, std::size_t end) {
    // This run's own moves of rules would look like somebody else's.
    if (plan_.changes[begin].wanted.key.kind == Kind::rule_group && rules_move_) return true;
    std::vector<Call> looks;
    for (std::size_t i = begin; i < end; ++i)
      if (auto call = look(plan_.changes[i])) looks.push_back(std::move(*call));
    if (looks.empty()) return true;
    server_.calls(looks, [&](std::size_t i, Result<Answer> answer) {
      const Change& change = plan_.changes[begin + i];
      if (!answer) {
        note(change, answer.error());
      } else if (!answer->ok() && answer->status != 404) {
        note(change, server_.error(looks[i], *answer));
      } else if (Json there = answer->ok() ? std::move(answer->json) : Json();
                 shown(change, std::move(there)) != change.before.raw) {
        note(change, {Error::Kind::bad_input, "it was changed by someone else since the plan: run it again"});
      }
    });
    return !cause_;
  }

  /// The object of the change in what its look showed; null if it is not there.
  static Json shown(const Change& change, Json answer) {
    if (change.wanted.key.kind != Kind::contact_point) return answer;
    for (Json& one : answer)
      if (one.is_object() && one.value("uid", "") == change.wanted.key.id) return std::move(one);
    return nullptr;
  }

  void write_own_routes(std::size_t at) {
    const Change& change = plan_.changes[at];
    const Json expected = change.action == Action::create ? Json() : change.before.content;
    const Json subtree = change.action == Action::remove ? Json() : change.wanted.content;
    auto done = write_routes(server_, change.wanted.key.id, subtree, expected);
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

  /// Before a contact point goes or gets other secrets: the one moment in which the old ones can still be
  /// read, by those who may.
  void remember_secrets(const Change& change) {
    if (change.wanted.key.kind != Kind::contact_point) return;
    if (change.action != Action::remove && !(change.action == Action::update && change.send_secrets)) return;
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
      // Only what this run wrote is taken back: what somebody else made of it meanwhile is theirs.
      const Json written = change.action == Action::remove ? Json() : change.wanted.content;
      return write_routes(server_, change.wanted.key.id, subtree, written);
    }
    Call call = *restoring(change);
    if (change.wanted.key.kind == Kind::folder && change.action == Action::create) {
      // Deleting a folder deletes what is in it, and that may be somebody else's by now.
      auto inside = server_.get("/api/search?limit=1&folderUIDs=" + grafana::escape(change.wanted.key.id));
      if (!inside) return tl::unexpected(inside.error());
      if (inside->is_array() && !inside->empty())
        return fail(Error::Kind::bad_input, "the folder holds something that this run did not make");
    }
    Change still_there = change;
    still_there.action = Action::update;
    const auto known = secret_settings_.find(change.wanted.key.id);
    const bool secret_lost = change.wanted.key.kind == Kind::contact_point &&
                             change.action != Action::create && known == secret_settings_.end() &&
                             change.before.raw.dump().find(kRedacted) != std::string::npos;
    if (known != secret_settings_.end() && change.wanted.key.kind == Kind::contact_point)
      call.body["settings"] = known->second;
    // "[REDACTED]" can only keep what is there.
    if (secret_lost && change.action == Action::remove) call = *restoring(still_there);
    auto answer = server_.call(call);
    if (answer && !answer->ok() && change.action == Action::remove && call.method == "POST") {
      // Perhaps it never went: the failed removal is put back, too.
      call = *restoring(still_there);
      answer = server_.call(call);
    }
    if (!answer) return tl::unexpected(answer.error());
    const bool gone = call.method == "DELETE" && answer->status == 404;
    if (!answer->ok() && secret_lost)
      return fail(Error::Kind::denied, "its secret cannot be read back with these credentials");
    if (!answer->ok() && !gone) return tl::unexpected(server_.error(call, *answer));
    if (secret_lost && change.action == Action::update && change.send_secrets)
      return fail(Error::Kind::denied, "restored but for its secrets, whose old values cannot be read");
    return {};
  }

  grafana::Server& server_;
  const Plan& plan_;
  const ApplyOptions& options_;
  std::stop_token stop_;
  bool rules_move_;
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
