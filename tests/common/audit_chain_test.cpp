#include "common/audit_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <limits>

#include <nlohmann/json.hpp>

#include "common/sha256.h"

namespace {

using namespace std::literals;
using namespace audit_chain;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// 2026-01-02T03:04:05.678Z
constexpr std::chrono::system_clock::time_point kTime{1767323045678ms};

std::string body(std::string_view event, logging::Fields fields = {},
                 std::chrono::system_clock::time_point time = kTime) {
  std::string out;
  append_body(out, {time, "edge-1", event, fields});
  return out;
}

/// `count` lines, each with its line feed.
std::vector<std::string> chain(std::size_t count, Link last = {}) {
  std::vector<std::string> lines(count);
  for (auto& line : lines) append_line(line, body("request", {{"n", last.seq + 1}}), last);
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line;
  return text;
}

Summary verified(std::string_view text, std::optional<Anchor> anchor = {}, std::size_t piece = 1 << 20) {
  Verifier verifier(std::move(anchor));
  verifier.begin_file("audit.jsonl");
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size())))
    verifier.read(text.substr(0, piece));
  return verifier.finish();
}

std::string problem_of(std::string_view text, std::optional<Anchor> anchor = {}) {
  const auto summary = verified(text, std::move(anchor));
  if (!summary.problem) return "none";
  return summary.problem->file + ":" + std::to_string(summary.problem->line) + " " +
         std::string(to_string(summary.problem->fault));
}

/// A line with the right hash over whatever stands before it: what a forger with a hash function makes.
std::string with_hash(const std::string& start) {
  return start + ",\"hash\":\"" + to_hex(sha256(start)) + "\"}\n";
}

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "audit-chain-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::filesystem::path put(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(Sha256, IsTheOneOfTheStandard) {
  // FIPS 180-2, appendix B.1, and the empty message.
  EXPECT_EQ(to_hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(AuditLine, IsOneJsonObjectInAFixedOrderThatEndsInItsHashes) {
  Link last;
  std::string line;
  append_line(line, body("auth.failed", {{"peer", "192.0.2.7"}, {"count", 3}, {"tls", true}}), last);
  const std::string start =
      R"({"seq":1,"time":"2026-01-02T03:04:05.678Z","instanceId":"edge-1","event":"auth.failed",)"
      R"("peer":"192.0.2.7","count":3,"tls":true,"prev":")" +
      std::string(64, '0') + "\"";
  EXPECT_EQ(line, with_hash(start));
  EXPECT_EQ(last.seq, 1U);
  EXPECT_EQ(last.hash, to_hex(sha256(start)));
}

TEST(AuditLine, IsReadBackAsItWasWritten) {
  Link last{41, std::string(64, 'a')};
  std::string line;
  append_line(line, body("drain"), last);
  const auto read = parse_line(std::string_view(line).substr(0, line.size() - 1));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->seq, 42U);
  EXPECT_EQ(read->time, "2026-01-02T03:04:05.678Z");
  EXPECT_EQ(read->event, "drain");
  EXPECT_EQ(read->prev, std::string(64, 'a'));
  EXPECT_EQ(read->hash, last.hash);
  EXPECT_TRUE(read->sound());
}

TEST(AuditLine, CannotBeForgedByWhatAValueHolds) {
  const std::string_view hostile[] = {
      "\",\"hash\":\"0000\"}\n{\"seq\":9",
      "two\nlines\r\n",
      "\xff\xfe broken \xc3",
      std::string_view("nul\0inside", 10),
      "\xed\xa0\x80 surrogate",
      "\x1b[2J\x7f\xc2\x85",
      "\\\"",
  };
  for (const auto value : hostile) {
    Link last;
    std::string line;
    append_line(line, body("request", {{"user_agent", value}, {value, 1}}), last);
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
    const auto read = parse_line(std::string_view(line).substr(0, line.size() - 1));
    ASSERT_TRUE(read) << line << read.error().message;
    EXPECT_EQ(read->seq, 1U);
    EXPECT_EQ(read->event, "request");
    EXPECT_EQ(problem_of(line), "none");
  }
  EXPECT_THAT(body("request", {{"path", "a\xff"}}), HasSubstr("\"path\":\"a\xEF\xBF\xBD\""));
}

TEST(AuditLine, HasOneOfEachNameWhateverTheFieldsAreCalled) {
  const auto text = body("request", {{"seq", 5}, {"hash", "x"}, {"prev", "y"}, {"event", "z"}, {"time", 1}});
  EXPECT_THAT(text, HasSubstr(R"("seq_":5,"hash_":"x","prev_":"y","event_":"z","time_":1)"));
}

TEST(AuditLine, StaysBelowItsLimitAndSaysWhatItLeftOut) {
  const std::string control(logging::Field("k", "").key().size() + 4000,
                            '\x01');  // six bytes each when escaped
  const std::string name(300, '\x02');
  Link last{std::numeric_limits<std::uint64_t>::max() - 1, std::string(64, 'f')};
  std::string out;
  append_body(out, {kTime, name, name, {{"a", control}, {"b", control}, {"c", control}}});
  std::string line;
  append_line(line, out, last);
  EXPECT_LE(line.size(), kMaxLineBytes);
  EXPECT_THAT(line, HasSubstr(",\"truncated\":true,\"prev\""));
  EXPECT_TRUE(parse_line(std::string_view(line).substr(0, line.size() - 1)));
}

TEST(AuditLine, RefusesWhatOnlyLooksLikeOne) {
  const std::string good = chain(1)[0].substr(0, chain(1)[0].size() - 1);
  ASSERT_TRUE(parse_line(good));
  const auto replaced = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const std::string rows[] = {
      "",
      "{}",
      "null",
      good + " ",
      " " + good,
      good.substr(1),
      replaced("\"seq\":1", "\"seq\":0"),
      replaced("\"seq\":1", "\"seq\":01"),
      replaced("\"seq\":1", "\"seq\":-1"),
      replaced("\"seq\":1", "\"seq\":1.0"),
      replaced("\"seq\":1", "\"seq\":18446744073709551616"),
      replaced("\"seq\":1", "\"seq\": 1"),
      replaced("2026-01-02T", "2026-01-02 "),
      replaced("\"edge-1\"", "7"),
      replaced("\"event\":\"request\"", "\"event\":1"),
      replaced("\"hash\":\"", "\"hush\":\""),
      replaced("\"prev\":\"0", "\"prev\":\"g"),
      replaced("\"prev\":\"0", "\"prev\":\"A"),
      std::string(kMaxLineBytes, ' '),
  };
  for (const auto& row : rows) {
    const auto read = parse_line(row);
    ASSERT_FALSE(read) << row;
    EXPECT_EQ(read.error().kind, Error::Kind::bad_input);
  }
}

TEST(AuditChain, VerifiesWhateverThePiecesItIsReadIn) {
  const auto text = joined(chain(20));
  for (const std::size_t piece : {1U, 7U, 64U, 1000U, 100'000U}) {
    const auto summary = verified(text, {}, piece);
    EXPECT_FALSE(summary.problem) << summary.problem->what;
    EXPECT_EQ(summary.lines, 20U);
    EXPECT_EQ(summary.first_seq, 1U);
    EXPECT_EQ(summary.last.seq, 20U);
  }
}

TEST(AuditChain, OfNothingIsWhole) {
  const auto summary = verified("");
  EXPECT_FALSE(summary.problem);
  EXPECT_EQ(summary.lines, 0U);
  EXPECT_EQ(summary.last, Link());
}

TEST(AuditChain, ShowsEveryChangedByte) {
  const auto lines = chain(3);
  const std::string text = joined(lines);
  const std::size_t start = lines[0].size();
  for (std::size_t at = start; at < start + lines[1].size(); ++at) {
    std::string changed = text;
    changed[at] = static_cast<char>(changed[at] ^ 0x01);
    EXPECT_TRUE(verified(changed).problem) << "byte " << at;
    EXPECT_EQ(verified(changed).lines, 1U);
  }
}

TEST(AuditChain, NamesTheFirstBadLineAndItsKind) {
  auto lines = chain(6);
  const auto forged = [&](std::string text, std::string_view from, std::string_view to) {
    text.replace(text.find(from), from.size(), to);
    return with_hash(text.substr(0, text.find(",\"hash\":\"")));
  };
  struct Row {
    const char* what;
    std::string text;
    const char* found;
  };
  const std::string changed = [&] {
    std::string text = lines[2];
    text.replace(text.find("edge-1"), 6, "edge-2");
    return text;
  }();
  const Row rows[] = {
      {"as it was", joined(lines), "none"},
      {"value changed", lines[0] + lines[1] + changed + lines[3], "audit.jsonl:3 bad hash"},
      {"value changed and hash computed anew",
       lines[0] + lines[1] + forged(lines[2], "edge-1", "edge-2") + lines[3], "audit.jsonl:4 broken chain"},
      {"line taken away", lines[0] + lines[1] + lines[3], "audit.jsonl:3 gap"},
      {"line taken away and the next renumbered",
       lines[0] + lines[1] + forged(lines[3], "\"seq\":4", "\"seq\":3"), "audit.jsonl:3 broken chain"},
      {"line twice", lines[0] + lines[1] + lines[1] + lines[2], "audit.jsonl:3 repeated number"},
      {"lines swapped", lines[0] + lines[2] + lines[1], "audit.jsonl:2 gap"},
      {"no JSON", lines[0] + "hello\n" + lines[1], "audit.jsonl:2 not JSON"},
      {"empty line", lines[0] + "\n" + lines[1], "audit.jsonl:2 not JSON"},
      {"zeros after a power cut", lines[0] + std::string(100'000, '\0'), "audit.jsonl:2 not JSON"},
      {"torn", lines[0] + lines[1] + lines[2].substr(0, 40), "audit.jsonl:3 torn line"},
      {"line feed missing", lines[0] + lines[1].substr(0, lines[1].size() - 1), "audit.jsonl:2 torn line"},
      {"beginning that follows something", forged(lines[0], "\"prev\":\"0", "\"prev\":\"1"),
       "audit.jsonl:1 broken chain"},
      {"beginning cut off", lines[3] + lines[4], "none"},  // as after retention; only an anchor can tell
      {"end cut off", lines[0] + lines[1], "none"},        // likewise
  };
  for (const auto& row : rows) EXPECT_EQ(problem_of(row.text), row.found) << row.what;
}

TEST(AuditChain, AcceptsAGapOnlyAsLargeAsItSays) {
  Link last;
  std::string start;
  append_line(start, body("started"), last);
  const auto with_gap = [&](std::uint64_t said, std::uint64_t skipped) {
    Link at = last;
    std::string text = start;
    append_line(text, body("audit.gap", {{"lines", said}, {"why", "queue full"}}), at, skipped);
    append_line(text, body("stopped"), at);
    return text;
  };
  const auto summary = verified(with_gap(5, 5));
  EXPECT_FALSE(summary.problem) << summary.problem->what;
  EXPECT_EQ(summary.lines, 3U);
  EXPECT_EQ(summary.last.seq, 8U);
  EXPECT_EQ(summary.gaps, 1U);
  EXPECT_EQ(summary.lost, 5U);
  EXPECT_EQ(problem_of(with_gap(0, 0)), "none");
  EXPECT_EQ(problem_of(with_gap(4, 5)), "audit.jsonl:2 gap");
  EXPECT_EQ(problem_of(with_gap(6, 5)), "audit.jsonl:2 gap");
  EXPECT_EQ(problem_of(with_gap(100, 5)), "audit.jsonl:2 gap");
}

TEST(AuditChain, MayBeginWithAGap) {
  Link last;
  std::string text;
  append_line(text, body("audit.gap", {{"lines", 3}}), last, 3);
  const auto summary = verified(text);
  EXPECT_FALSE(summary.problem) << summary.problem->what;
  EXPECT_EQ(summary.first_seq, 4U);
  EXPECT_EQ(summary.lost, 3U);
}

TEST(AuditChain, IsComparedWithAnAnchorFromElsewhere) {
  const auto lines = chain(6);
  const auto anchor = [&](std::size_t seq) {
    return Anchor{seq, std::string(parse_line(lines[seq - 1].substr(0, lines[seq - 1].size() - 1))->hash)};
  };
  const std::string all = joined(lines);
  const std::string tail = lines[3] + lines[4] + lines[5];
  EXPECT_EQ(problem_of(all, anchor(1)), "none");
  EXPECT_EQ(problem_of(all, anchor(6)), "none");
  EXPECT_EQ(problem_of(tail, anchor(3)), "none") << "the first line kept follows it";
  EXPECT_EQ(problem_of(all, Anchor{0, std::string(64, '0')}), "none");
  EXPECT_EQ(problem_of(tail, anchor(2)), ":0 anchor not met") << "nothing here tells";
  EXPECT_EQ(problem_of(lines[0] + lines[1], anchor(5)), ":0 anchor not met") << "the end was cut off";
  EXPECT_EQ(problem_of(all, Anchor{4, std::string(64, 'e')}), "audit.jsonl:4 anchor not met")
      << "all made anew";
  EXPECT_EQ(problem_of(tail, Anchor{3, std::string(64, 'e')}), "audit.jsonl:1 anchor not met");
}

TEST(AuditAnchor, IsReadFromText) {
  const std::string hash(64, 'a');
  const auto anchor = parse_anchor("123:" + hash);
  ASSERT_TRUE(anchor);
  EXPECT_EQ(anchor->seq, 123U);
  EXPECT_EQ(anchor->hash, hash);
  for (const auto& text : {std::string(), "123"s + hash, ":" + hash, "x:" + hash, "12x:" + hash,
                           "1:" + hash + "0", "1:" + std::string(64, 'A'), "-1:" + hash, "1:"s})
    EXPECT_FALSE(parse_anchor(text)) << text;
}

TEST(AuditFiles, AreFoundInTheOrderOfTheirNumbers) {
  const Folder folder;
  for (const auto* name : {"audit-0000000000000010.jsonl", "audit-0000000000000002.jsonl", "audit-2.jsonl",
                           "lock", "audit-0000000000000003.jsonl.gz", "audit-10000000000000000.jsonl"})
    folder.put(name, "");
  const auto files = files_in(folder.path());
  ASSERT_TRUE(files);
  EXPECT_THAT(*files, ElementsAre(folder.path() / "audit-0000000000000002.jsonl",
                                  folder.path() / "audit-0000000000000010.jsonl",
                                  folder.path() / "audit-10000000000000000.jsonl"));
}

TEST(AuditFiles, ThatAreNotThereAreSaidToBeMissing) {
  const Folder folder;
  EXPECT_EQ(files_in(folder.path()).error().kind, Error::Kind::not_found);
  EXPECT_THAT(files_in(folder.path() / "none").error().message, HasSubstr((folder.path() / "none").string()));
  const std::vector<std::filesystem::path> missing{folder.path() / "audit-1"};
  EXPECT_EQ(verify(missing).error().kind, Error::Kind::not_found);
  EXPECT_EQ(audit_chain::search(missing, {}, [](std::string_view) { return true; }).error().kind,
            Error::Kind::not_found);
}

TEST(AuditFiles, AreOneChainAcrossTheirBorders) {
  const Folder folder;
  const auto lines = chain(4);
  const auto one = folder.put("audit-1", lines[0] + lines[1]);
  const auto two = folder.put("audit-3", lines[2] + lines[3]);
  const std::vector<std::filesystem::path> both{one, two}, swapped{two, one};
  const auto summary = verify(both);
  ASSERT_TRUE(summary);
  EXPECT_FALSE(summary->problem);
  EXPECT_EQ(summary->files, 2U);
  EXPECT_EQ(summary->lines, 4U);
  const auto wrong = verify(swapped);
  ASSERT_TRUE(wrong && wrong->problem);
  EXPECT_EQ(wrong->problem->file, one.string());
  EXPECT_EQ(wrong->problem->line, 1U);
  EXPECT_EQ(wrong->problem->fault, Fault::repeated);
}

TEST(AuditFiles, ThatEndTornAreNotJoinedToTheNext) {
  const Folder folder;
  const auto lines = chain(2);
  const auto cut = lines[0].size() / 2;
  const std::vector<std::filesystem::path> files{folder.put("a", lines[0].substr(0, cut)),
                                                 folder.put("b", lines[0].substr(cut) + lines[1])};
  const auto summary = verify(files);
  ASSERT_TRUE(summary && summary->problem);
  EXPECT_EQ(summary->problem->file, files[0].string());
  EXPECT_EQ(summary->problem->fault, Fault::torn);
}

class AuditSearch : public testing::Test {
 protected:
  AuditSearch() {
    Link last;
    append_line(first_, body("auth.failed", {{"reason", "expired"}, {"count", 1}, {"tls", true}}, kTime),
                last);
    append_line(first_, body("auth.accepted", {{"reason", "ok"}}, kTime + 1s), last);
    append_line(second_, body("request", {{"status", 200}, {"ms", 1.5}}, kTime + 2s), last);
    append_line(second_, body("auth.failed", {{"reason", "a\"b"}}, kTime + 3s), last);
  }
  std::vector<std::uint64_t> found(const Query& query, std::size_t limit = 99) {
    const std::vector<std::filesystem::path> files{folder_.put("1", first_), folder_.put("2", second_)};
    std::vector<std::uint64_t> numbers;
    const auto done = audit_chain::search(files, query, [&](std::string_view line) {
      numbers.push_back(parse_line(line)->seq);
      return numbers.size() < limit;
    });
    EXPECT_TRUE(done);
    return numbers;
  }

  Folder folder_;
  std::string first_, second_;
};

TEST_F(AuditSearch, TakesEveryLineWhenNothingIsAsked) {
  EXPECT_THAT(found({}), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(found({}, 3), ElementsAre(1, 2, 3));
  EXPECT_THAT(found({}, 1), ElementsAre(1));
}

TEST_F(AuditSearch, KnowsEventsByGlob) {
  EXPECT_THAT(found({.event = "auth.failed", .fields = {}, .since = {}, .until = {}}), ElementsAre(1, 4));
  EXPECT_THAT(found({.event = "auth.*", .fields = {}, .since = {}, .until = {}}), ElementsAre(1, 2, 4));
  EXPECT_THAT(found({.event = "auth", .fields = {}, .since = {}, .until = {}}), ElementsAre());
}

TEST_F(AuditSearch, ComparesFieldsAsWritten) {
  const auto with = [&](std::vector<std::pair<std::string, std::string>> fields) {
    return found({.event = {}, .fields = std::move(fields), .since = {}, .until = {}});
  };
  EXPECT_THAT(with({{"reason", "expired"}}), ElementsAre(1));
  EXPECT_THAT(with({{"reason", "a\"b"}}), ElementsAre(4));
  EXPECT_THAT(with({{"count", "1"}, {"tls", "true"}}), ElementsAre(1));
  EXPECT_THAT(with({{"count", "1"}, {"tls", "false"}}), ElementsAre());
  EXPECT_THAT(with({{"status", "200"}}), ElementsAre(3));
  EXPECT_THAT(with({{"ms", "1.5"}}), ElementsAre(3));
  EXPECT_THAT(with({{"instanceId", "edge-1"}, {"seq", "2"}}), ElementsAre(2));
  EXPECT_THAT(with({{"none", ""}}), ElementsAre());
}

TEST_F(AuditSearch, IncludesBothEndsOfATime) {
  EXPECT_THAT(found({.event = {}, .fields = {}, .since = kTime + 1s, .until = kTime + 2s}),
              ElementsAre(2, 3));
  EXPECT_THAT(found({.event = {}, .fields = {}, .since = kTime + 2001ms, .until = {}}), ElementsAre(4));
}

TEST_F(AuditSearch, PassesOverDamagedLines) {
  first_ = "junk\n" + std::string(600'000, 'x') + "\n" + first_ + "{\"seq\":";
  EXPECT_THAT(found({}), ElementsAre(1, 2, 3, 4));
}

}  // namespace
