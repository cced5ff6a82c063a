#include <limits>
#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/refresh.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/event_stream.h"
#include "tunnelctl/terminal/screen.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl {
namespace {

constexpr std::size_t kPage = 500;

struct Events {
  bool follow = false;
  std::optional<std::uint64_t> after{};
  std::size_t limit = 100;
};

/// "breaker=0a1b service=web": names as they are, texts without quotes unless a space would part them.
std::string data_text(const daemon::Json& data) {
  std::string text;
  if (!data.is_object()) return text;
  for (const auto& [name, value] : data.items()) {
    auto said = value.dump(-1, ' ', false, daemon::Json::error_handler_t::replace);
    const bool plain =
        value.is_string() && said.size() > 2 && said.find_first_of(" =\\") == std::string::npos;
    if (plain) said = said.substr(1, said.size() - 2);
    text += (text.empty() ? "" : " ") + name + "=" + said;
  }
  return terminal::harmless(text);
}

void print(const daemon::Event& event, Session& session) {
  if (session.json()) {
    session.out << event.line << '\n';
    return;
  }
  session.out << event.id << "  " << terminal::harmless(event.time) << "  "
              << terminal::paint(terminal::harmless(event.kind), terminal::Colour::bold, session.coloured());
  if (const auto data = data_text(event.data); !data.empty()) session.out << "  " << data;
  session.out << '\n';
}

void warn_of_gap(const Session& session, std::uint64_t missing, std::uint64_t came) {
  session.warn("events " + std::to_string(missing) + " to " + std::to_string(came - 1) +
               " are gone: they were older than what tunneld keeps");
}

/// What is wanted so far, page by page; moves `after` on. True: there is more.
Result<bool> print_pages(const daemon::Admin& admin, std::uint64_t& after, std::size_t limit,
                         Session& session) {
  std::size_t shown = 0;
  for (;;) {
    const std::size_t wanted = limit == 0 ? kPage : std::min(kPage, limit - shown);
    const auto page = admin.events(after, wanted);
    if (!page) return tl::unexpected(page.error());
    if (page->gap && !page->events.empty()) warn_of_gap(session, after + 1, page->events.front().id);
    for (const auto& event : page->events) {
      print(event, session);
      after = std::max(after, event.id);
    }
    shown += page->events.size();
    if (page->events.empty() || after >= page->last) return false;
    if (limit != 0 && shown >= limit) return true;
  }
}

Result<ExitStatus> follow(const daemon::Admin& admin, std::uint64_t after, Session& session) {
  const auto take = [&](const daemon::Event& event) {
    print(event, session);
    session.out.flush();
    return static_cast<bool>(session.out);
  };
  const auto lost = [&](const Error& why, std::chrono::milliseconds pause) {
    session.say("tunnelctl: " + terminal::harmless(why.message) + "; again in " +
                terminal::duration(static_cast<double>(pause.count() + 999) / 1000));
  };
  const auto gap = [&](std::uint64_t missing, std::uint64_t came) { warn_of_gap(session, missing, came); };
  const auto anew = [&] { session.warn("the daemon's events began anew, from number 1"); };
  const auto wait = [&](std::chrono::milliseconds time) { return terminal::pause(time, session.stop); };
  const auto done = daemon::follow(
      admin, {.after = after, .take = take, .lost = lost, .gap = gap, .anew = anew, .wait = wait});
  if (!done) return tl::unexpected(done.error());
  return ended_by_person(session);
}

Result<ExitStatus> run(const Events& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  std::uint64_t after = options.after.value_or(0);
  if (!options.after && options.limit > 0) {
    // The newest ones, as with tail.
    const auto page = admin->events(0, 1);
    if (!page) return tl::unexpected(page.error());
    if (page->last > options.limit) after = page->last - options.limit;
    if (page->first > 0) after = std::max(after, page->first - 1);
  }
  const auto more = print_pages(*admin, after, options.after && options.follow ? 0 : options.limit, session);
  if (!more) return tl::unexpected(more.error());
  if (!options.follow) {
    if (!*more) return ExitStatus::ok;
    const auto hint = "more exist: tunnelctl events --after " + std::to_string(after);
    // Its lines are events and nothing else, so whoever reads them has no other place to learn of it.
    if (session.json())
      session.warn(hint);
    else
      session.say(hint);
    return ExitStatus::ok;
  }
  session.out.flush();
  return follow(*admin, after, session);
}

}  // namespace

void add_events(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Events>();
  auto& verb = add_verb(app, chosen, "events", "Shows what happened to tunneld, and what happens",
                        "  tunnelctl events --limit 20\n"
                        "  tunnelctl events --follow\n"
                        "  tunnelctl events --after 120 --limit 0 --output json | jq .kind",
                        options);
  verb.add_flag("--follow", options->follow, "go on with what happens, until Ctrl-C; reconnects");
  verb.add_option("--after", options->after,
                  "begin behind the event of this number; default: the newest ones")
      ->type_name("ID");
  add_limit(verb, options->limit);
}

}  // namespace tunnelctl
