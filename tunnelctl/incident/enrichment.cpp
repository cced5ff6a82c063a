#include "tunnelctl/incident/enrichment.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "tunnelctl/grafana/links.h"
#include "tunnelctl/incident/enrichment_parts.h"
#include "tunnelctl/incident/runbook.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl::incident {
namespace {

using markdown::Section;

/// Prometheus works on 20 queries at once; with more of them waiting here, a hanging Prometheus must not keep
/// Loki from being asked.
constexpr std::size_t kMaxThreads = 32;
constexpr std::size_t kMaxChanges = 8;
constexpr std::size_t kMaxProblems = 8;
constexpr std::size_t kMaxNamed = 5;    // services, of those that stand in log lines
constexpr std::size_t kMaxUrl = 4'000;  // browsers and chats cut longer ones

struct Asked {
  std::string name{};
  std::function<Answer()> ask{};
  std::optional<Answer> answer{};
};

/// Asks all, and returns when all have answered, at the deadline or the stop. Answers that come later are
/// thrown away.
void ask_all(std::vector<Asked>& all, std::chrono::milliseconds deadline,
             const std::function<void()>& give_up, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::size_t next = 0, done = 0;
  bool over = false;
  const auto work = [&] {
    for (;;) {
      std::size_t mine = 0;
      {
        const std::lock_guard lock(mutex);
        if (over || next == all.size()) return;
        mine = next++;
      }
      auto answer = all[mine].ask();
      {
        const std::lock_guard lock(mutex);
        if (over) return;
        all[mine].answer = std::move(answer);
        ++done;
      }
      changed.notify_one();
    }
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < std::min(all.size(), kMaxThreads); ++i) threads.emplace_back(work);
  {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, stop, deadline, [&] { return done == all.size(); });
    over = true;
    if (done == all.size()) return;
  }
  if (give_up) give_up();
}

class Enriching {
 public:
  Enriching(const Subject& subject, const EnrichmentOptions& options, const Sources& sources)
      : subject_(subject),
        options_(options),
        sources_(sources),
        redaction_({.addresses = options.redact_addresses}),
        now_(options.now.value_or(
            std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now()))),
        range_(range_of(subject, options, now_)) {}

  Enrichment run(const std::stop_token& stop);

 private:
  void plan();
  void plan_changes();
  void problem(const std::string& name, const std::string& why);
  void collect(const std::stop_token& stop);

  Section head() const;
  std::string affected() const;
  void add_facts(std::vector<std::string>& items) const;
  Section numbers() const;
  Section changes() const;
  Section places();
  std::vector<Section> runbook();
  Section unknown() const;

  std::string shown(std::string_view text, std::size_t characters = 300) const {
    return clean(text, characters, redaction_);
  }
  std::string in_code(std::string_view text, std::size_t characters = 300) const {
    return markdown::code(shown(text, characters), characters);
  }
  void attach(const std::string& caption, const Result<std::string>& url);

  const Subject& subject_;
  const EnrichmentOptions& options_;
  const Sources& sources_;
  const patterns::Redaction redaction_;
  const Time now_;
  const times::Range range_;
  std::vector<Asked> all_{};
  std::vector<grafana::ExploreQuery> metric_queries_{}, log_queries_{};
  std::vector<std::pair<std::string, std::string>> problems_{};  // why, and the names of whose it is
  std::vector<std::string> numbers_{};
  std::vector<Section> parts_{};
  std::vector<Sources::Change> changes_{};
  bool changes_known_ = false;
  std::set<std::string> principals_{}, services_{};
  std::vector<Attachment> attachments_{};
};

void Enriching::problem(const std::string& name, const std::string& why) {
  const auto found =
      std::find_if(problems_.begin(), problems_.end(), [&](const auto& one) { return one.first == why; });
  if (found == problems_.end())
    problems_.emplace_back(why, name);
  else
    found->second += ", " + name;
}

void Enriching::plan() {
  for (const bool logs : {true, false}) {  // logs first: they take longest
    for (const auto& question : options_.questions) {
      const bool of_logs = question.kind == Question::Kind::logs || question.kind == Question::Kind::patterns;
      const auto& kinds = question.kinds;
      if (of_logs != logs ||
          (!kinds.empty() && std::find(kinds.begin(), kinds.end(), subject_.kind) == kinds.end()))
        continue;
      if (of_logs ? sources_.logs == nullptr : sources_.metrics == nullptr) {
        const auto& why = of_logs ? sources_.logs_missing : sources_.metrics_missing;
        problem(question.name, !why.empty() ? shown(why)
                               : of_logs    ? "no Loki is known"
                                            : "no Prometheus is known");
        continue;
      }
      auto expr = expanded(question, subject_, options_);
      if (!expr) {
        problem(question.name, shown(expr.error().message));
        continue;
      }
      auto& queries = of_logs ? log_queries_ : metric_queries_;
      const bool asked_already =
          std::any_of(queries.begin(), queries.end(), [&](const auto& one) { return one.expr == *expr; });
      if (queries.size() < 4 && !asked_already && !redaction_.finds(*expr))
        queries.push_back({.ref = std::string(1, static_cast<char>('A' + queries.size())), .expr = *expr});
      all_.push_back({.name = question.name,
                      .ask =
                          [this, &question, text = std::move(*expr)] {
                            return answer_to(question, text, subject_, options_, sources_, range_);
                          },
                      .answer = {}});
    }
    if (logs) plan_changes();
  }
}

void Enriching::plan_changes() {
  const times::Range range{.from = subject_.at - options_.changes_window, .to = range_.to};
  for (const auto& log : sources_.changes)
    all_.push_back({.name = log.name,
                    .ask =
                        [&log, range] {
                          auto told = log.ask(range);
                          Answer answer;
                          if (told)
                            answer.changes = std::move(*told);
                          else
                            answer.problem = told.error().message;
                          return answer;
                        },
                    .answer = {}});
}

Section Enriching::changes() const {
  Section section{.heading = "What changed", .lead = {}, .form = Section::Form::list};
  if (!changes_known_) section.heading.clear();
  if (changes_known_ && changes_.empty())
    section.lead = "Nothing was told for " + times::duration_text(options_.changes_window) + " before.";
  auto all = changes_;
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::tie(a.at, a.text) < std::tie(b.at, b.text);
  });
  section.more = all.size() > kMaxChanges ? all.size() - kMaxChanges : 0;
  for (std::size_t i = section.more; i < all.size(); ++i)
    section.items.push_back(markdown::utc(all[i].at) +
                            (all[i].at <= subject_.at ? ": " : " (after it began): ") +
                            markdown::plain(shown(all[i].text)));
  return section;
}

void Enriching::collect(const std::stop_token& stop) {
  std::vector<std::string> order;
  for (const auto& question : options_.questions) order.push_back(question.name);
  // As the questions stand, whichever was answered first.
  std::stable_sort(all_.begin(), all_.end(), [&](const Asked& a, const Asked& b) {
    return std::find(order.begin(), order.end(), a.name) < std::find(order.begin(), order.end(), b.name);
  });
  for (auto& asked : all_) {
    if (!asked.answer) {
      problem(asked.name, stop.stop_requested()
                              ? "stopped before it was answered"
                              : "not answered within " + times::duration_text(options_.deadline));
      continue;
    }
    auto& answer = *asked.answer;
    if (!answer.problem.empty()) problem(asked.name, shown(answer.problem));
    if (!answer.item.empty()) numbers_.push_back(std::move(answer.item));
    if (const auto& logs = sources_.changes;
        answer.problem.empty() &&
        std::any_of(logs.begin(), logs.end(), [&](const auto& log) { return log.name == asked.name; }))
      changes_known_ = true;
    for (auto& change : answer.changes) changes_.push_back(std::move(change));
    for (auto& section : answer.sections) parts_.push_back(std::move(section));
    principals_.merge(answer.principals);
    services_.merge(answer.services);
  }
}

std::string Enriching::affected() const {
  constexpr std::array<std::pair<const char*, const char*>, 8> kWords{{{"service", "service"},
                                                                       {"upstream", "upstream"},
                                                                       {"agent", "agent"},
                                                                       {"principal", "caller"},
                                                                       {"breaker", "breaker"},
                                                                       {"component", "component"},
                                                                       {"instance", "instance"},
                                                                       {"alertname", "alert"}}};
  std::string text;
  for (const auto& [label, word] : kWords)
    if (const auto value = in_code(label_value(subject_, label), 100); !value.empty())
      text += (text.empty() ? "" : ", ") + std::string(word) + " " + value;
  if (services_.empty() && principals_.empty()) return text;
  text += text.empty() ? "in the error lines: " : "; in the error lines: ";
  text += std::to_string(principals_.size()) + (principals_.size() == 1 ? " caller" : " callers");
  std::string names;
  std::size_t named = 0;
  for (const auto& service : services_)
    if (const auto name = in_code(service, 60); named < kMaxNamed && !name.empty()) {
      names += (named == 0 ? "" : ", ") + name;
      ++named;
    }
  text += ", " + std::to_string(services_.size()) + (services_.size() == 1 ? " service" : " services");
  if (!names.empty()) text += " (" + names + (services_.size() > named ? ", …" : "") + ")";
  return text;
}

void Enriching::add_facts(std::vector<std::string>& items) const {
  if (!subject_.facts.is_object()) return;
  constexpr std::array<std::pair<const char*, std::string_view>, 13> kTold{
      {{"summary", "Summary"},
       {"description", "Description"},
       {"why", "Why"},
       {"reason", "Reason"},
       {"failures", "Failures in a row"},
       {"refusedRequests", "Requests refused"},
       {"lastErrors", "Last failures"},
       {"nextProbe", "Next try"},
       {"what", "What is near its limit"},
       {"level", "Level"},
       {"fill", "Fill"},
       {"services", "Services"},
       {"version", "Version"}}};
  for (const auto& [member, words] : kTold) {
    const auto found = subject_.facts.find(member);
    if (found == subject_.facts.end()) continue;
    std::string text;
    if (words == "Fill" && found->is_number())
      text = terminal::percent(found->get<double>());
    else if (found->is_number())
      text = terminal::number(found->get<double>());
    else if (found->is_string() && (words == "Summary" || words == "Description"))
      text = markdown::plain(shown(found->get<std::string>()));  // a sentence
    else if (found->is_string())
      text = in_code(found->get<std::string>());
    else if (found->is_array())
      for (std::size_t i = 0; i < std::min<std::size_t>(found->size(), 5); ++i)
        if (const auto& one = (*found)[i]; one.is_string())
          text += (text.empty() ? "" : ", ") + in_code(one.get<std::string>(), 150);
    if (!text.empty()) items.push_back("**" + std::string(words) + "**: " + text);
  }
}

Section Enriching::head() const {
  Section section{.heading = {}, .lead = {}, .form = Section::Form::list};
  section.keep = true;
  if (const auto title = markdown::plain(shown(subject_.title)); !title.empty())
    section.items.push_back("**What**: " + title + " (" + std::string(name_of(subject_.severity)) + ")");
  const auto seconds = [](auto time) {
    return terminal::duration(std::chrono::duration<double>(time).count());
  };
  std::string since = markdown::utc(subject_.at);
  if (subject_.until)
    since +=
        ", until " + markdown::utc(*subject_.until) + " (" + seconds(*subject_.until - subject_.at) + ")";
  else if (now_ > subject_.at)
    since += " (" + seconds(now_ - subject_.at) + " ago)";
  section.items.push_back("**Since**: " + since);
  if (const auto who = affected(); !who.empty()) section.items.push_back("**Affected**: " + who);
  add_facts(section.items);
  return section;
}

Section Enriching::numbers() const {
  Section section{.heading = numbers_.empty() ? "" : "Numbers", .lead = {}, .form = Section::Form::list};
  if (!numbers_.empty())
    section.lead = "Now in bold; the line is from " + markdown::clock(range_.from) + " to " +
                   markdown::clock(range_.to) + " UTC.";
  section.items = numbers_;
  return section;
}

void Enriching::attach(const std::string& caption, const Result<std::string>& url) {
  if (url && url->size() <= kMaxUrl) attachments_.push_back({.url = *url, .caption = caption});
}

Section Enriching::places() {
  grafana::LinkOptions link;
  link.from = std::to_string(range_.from.time_since_epoch().count());
  link.to = std::to_string(range_.to.time_since_epoch().count());
  const auto& base = sources_.grafana_url;
  if (!base.empty() && !sources_.dashboard_uid.empty())
    attach("Dashboard", grafana::dashboard_link(base, sources_.dashboard_uid, link));
  if (!base.empty() && !sources_.metrics_uid.empty() && !metric_queries_.empty())
    attach("Numbers in Explore",
           grafana::explore_link(base, "", {sources_.metrics_uid, "prometheus", metric_queries_}, link));
  if (!base.empty() && !sources_.logs_uid.empty() && !log_queries_.empty())
    attach("Log lines in Explore",
           grafana::explore_link(base, "", {sources_.logs_uid, "loki", log_queries_}, link));
  if (const auto* page = runbook_for(subject_); page != nullptr && !options_.runbook_url.empty())
    attach("Runbook", options_.runbook_url + (options_.runbook_url.ends_with('/') ? "" : "/") +
                          std::string(page->name) + ".md");
  if (subject_.facts.is_object())
    if (const auto url = subject_.facts.find("runbook_url"); url != subject_.facts.end() && url->is_string())
      if (const auto text = url->get<std::string>();
          text.starts_with("https://") || text.starts_with("http://"))
        attach("The alert's runbook", redaction_.apply(text));
  Section section{
      .heading = attachments_.empty() ? "" : "Where to look", .lead = {}, .form = Section::Form::list};
  for (const auto& one : attachments_) section.items.push_back(markdown::link(one.caption, one.url));
  section.keep = true;
  return section;
}

std::vector<Section> Enriching::runbook() {
  const auto* page = runbook_for(subject_);
  if (page == nullptr) return {};
  const auto excerpt = excerpt_of(page->text);
  Section section{.heading = "Runbook " + std::string(page->name),
                  .lead = excerpt.meaning,
                  .form = Section::Form::blocks};
  section.items = excerpt.checks;
  return {std::move(section)};
}

Section Enriching::unknown() const {
  Section section{
      .heading = problems_.empty() ? "" : "Not found out", .lead = {}, .form = Section::Form::list};
  for (const auto& [why, names] : problems_) {
    if (section.items.size() == kMaxProblems) break;
    section.items.push_back(markdown::plain(shown(names)) + ": " + markdown::code(why));
  }
  section.more = problems_.size() - section.items.size();
  section.keep = true;
  return section;
}

Enrichment Enriching::run(const std::stop_token& stop) {
  plan();
  ask_all(all_, options_.deadline, sources_.give_up, stop);
  collect(stop);
  std::vector<Section> sections{head(), numbers()};
  for (auto& part : parts_) sections.push_back(std::move(part));
  sections.push_back(changes());
  sections.push_back(places());
  if (options_.runbook)
    for (auto& part : runbook()) sections.push_back(std::move(part));
  sections.push_back(unknown());
  Enrichment result;
  result.markdown = markdown::note(std::move(sections), options_.max_bytes);
  result.attachments = std::move(attachments_);
  for (const auto& [why, names] : problems_) result.problems.push_back(shown(names) + ": " + why);
  return result;
}

}  // namespace

Subject subject_of(const Incident& incident) {
  Subject subject{.dedup_key = incident.dedup_key,
                  .kind = "manual",
                  .title = incident.title,
                  .severity = incident.severity,
                  .labels = incident.labels,
                  .at = incident.opened,
                  .until = incident.resolved};
  // "tunneld/breaker/home/api", "tunneld/agents"
  constexpr std::array<std::string_view, 7> kKinds{"breaker", "upstream", "agent", "daemon",
                                                   "audit",   "overload", "alert"};
  const std::string key = "/" + incident.dedup_key + "/";
  for (const auto kind : kKinds)
    for (const auto* ending : {"/", "s/"})
      if (subject.kind == "manual" && key.find("/" + std::string(kind) + ending) != std::string::npos)
        subject.kind = kind;
  if (!label_value(subject, "alertname").empty()) subject.kind = "alert";
  if (subject.kind == "overload") subject.facts["what"] = label_value(subject, "what");
  return subject;
}

times::Range range_of(const Subject& subject, const EnrichmentOptions& options, Time now) {
  times::Range range{.from = subject.at - options.window, .to = std::max(now, subject.at)};
  // A little behind its end, to show that it was one.
  if (subject.until) range.to = std::min(range.to, *subject.until + options.window / 6);
  if (range.to <= range.from) range.to = range.from + std::chrono::minutes(1);
  return range;
}

Enrichment enrich(const Subject& subject, const EnrichmentOptions& options, const Sources& sources,
                  std::stop_token stop) {
  return Enriching(subject, options, sources).run(stop);
}

}  // namespace tunnelctl::incident
