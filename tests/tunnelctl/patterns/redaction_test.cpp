#include "tunnelctl/patterns/redaction.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace {

using namespace tunnelctl::patterns;

struct Row {
  std::string_view text, expected;
};

template <class Rows>
void check(const Rows& rows, const Redaction& redaction = Redaction()) {
  for (const Row& row : rows) {
    const auto once = redaction.apply(row.text);
    EXPECT_EQ(once, row.expected);
    EXPECT_EQ(redaction.apply(once), once) << "a second time: " << row.text;
    EXPECT_EQ(redaction.finds(row.text), row.text != row.expected) << row.text;
    EXPECT_FALSE(redaction.finds(once)) << once;
  }
}

TEST(Redaction, TakesOutWhatANameCallsASecret) {
  const Row rows[] = {
      {"password=hunter2", "password=[redacted password]"},
      {"password = hunter2 x", "password = [redacted password] x"},
      {"password: hunter2", "password: [redacted password]"},
      {"password => hunter2", "password => [redacted password]"},
      {"DB_PASSWORD=a PGPASSWORD=b dbPasswd=c",
       "DB_PASSWORD=[redacted password] PGPASSWORD=[redacted password] "
       "dbPasswd=[redacted password]"},
      {R"({"password":"a\"b","user":"x"})", R"({"password":"[redacted password]","user":"x"})"},
      {R"({"password" : 12345, "n":1})", R"({"password" : [redacted password], "n":1})"},
      {R"({'token': 'abc'})", R"({'token': '[redacted token]'})"},
      {R"({"msg":"{\"password\":\"x y\",\"a\":1}"})",
       R"({"msg":"{\"password\":\"[redacted password]\",\"a\":1}"})"},
      {R"({"a":"{\"b\":\"{\\\"secret\\\":\\\"x\\\"}\"}"})",
       R"({"a":"{\"b\":\"{\\\"secret\\\":\\\"[redacted secret]\\\"}\"}"})"},
      {R"({"token":["abc","def"],"n":5})", R"({"token":[[redacted token]],"n":5})"},
      {R"({"token":["a","b]c","d"],"n":5})", R"({"token":[[redacted token]],"n":5})"},
      {R"(secret="two words" x)", R"(secret="[redacted secret]" x)"},
      {R"(password="never closed x)", R"(password="[redacted password])"},
      {"client_secret=a&grant_type=b", "client_secret=[redacted secret]&grant_type=b"},
      {"clientSecret: abc, accessToken: def",
       "clientSecret: [redacted secret], accessToken: [redacted token]"},
      {"x-api-key: 12ab; next", "x-api-key: [redacted token]; next"},
      {"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
       "AWS_SECRET_ACCESS_KEY=[redacted token]"},
      {"--password hunter2 --user bob", "--password [redacted password] --user bob"},
      {"--token=abc", "--token=[redacted token]"},
      {"<password>hunter2</password>", "<password>[redacted password]</password>"},
      {R"({"routing_key":"0123456789abcdef0123456789abcdef"})", R"({"routing_key":"[redacted token]"})"},
      {"User(name=bob, password=x1)", "User(name=bob, password=[redacted password])"},
      {"params[\"token\"] = abc", "params[\"token\"] = [redacted token]"},
      {"https://x/y?a=1&access_token=abc&b=2 HTTP", "https://x/y?a=1&access_token=[redacted token]&b=2 HTTP"},
      {"?X-Amz-Signature=abc123&x", "?X-Amz-Signature=[redacted token]"},
      {"AccountKey=abc==;EndpointSuffix=core", "AccountKey=[redacted secret];EndpointSuffix=core"},
      {R"(["mysql","--password","S3","-h"])", R"(["mysql","--password","[redacted password]","-h"])"},
      {R"(['--token', 'S3'])", R"(['--token', '[redacted token]'])"},
      {R"("--password" "S3" x)", R"("--password" "[redacted password]" x)"},
      {"-token S3 -password S4", "-token [redacted token] -password [redacted password]"},
      {R"({"name":"DB_PASSWORD","value":"S3"})", R"({"name":"DB_PASSWORD","value":"[redacted password]"})"},
      {R"({"name": "DB_PASSWORD", "value": "S3"})",
       R"({"name": "DB_PASSWORD", "value": "[redacted password]"})"},
      {"- name: DB_PASSWORD\n  value: S3\n", "- name: DB_PASSWORD\n  value: [redacted password]\n"},
      {"{Name:DB_PASSWORD Value:S3 ValueFrom:nil}",
       "{Name:DB_PASSWORD Value:[redacted password] ValueFrom:nil}"},
      {"DB_PASSWORD:                          S3",
       "DB_PASSWORD:                          [redacted password]"},
      {"open shop:S:3@tcp(db:3306)/shop?x=1", "open shop:[redacted password]@tcp(db:3306)/shop?x=1"},
      {R"(dsn="shop:S3@unix(/run/mysql)/shop")", R"(dsn="shop:[redacted password]@unix(/run/mysql)/shop")"},
      {"?a=1&sig=0123456789abcdef01", "?a=1&sig=[redacted token]"},
      {"pass: 1234", "pass: [redacted password]"},
  };
  check(rows);
}

TEST(Redaction, TakesNoPasswordForAWordOfProse) {
  const Row rows[] = {
      {"password: a.S3", "password: [redacted password]"},
      {"password: get,S3", "password: [redacted password]"},
      {"password: bad:guy", "password: [redacted password]"},
      {"token: a:S3", "token: [redacted token]"},
      {"password: open", "password: [redacted password]"},
      {"client secret: context x", "client secret: [redacted secret] x"},
      {"password: expired. Change it", "password: expired. Change it"},
      {"password: required, but missing", "password: required, but missing"},
      {R"({"error":"invalid token: expired"})", R"({"error":"invalid token: expired"})"},
  };
  check(rows);
}

TEST(Redaction, TakesASecretWithPunctuationWhole) {
  const Row rows[] = {
      {"password=hun,ter2! next=1", "password=[redacted password] next=1"},
      {"password=a;b&c)d]e}f'g end", "password=[redacted password] end"},
      {"(password=a,b)", "(password=[redacted password])"},
      {"password=a,b,user=c", "password=[redacted password],user=c"},
      {"password=it's user=c", "password=[redacted password] user=c"},
      {"login password=abc. Then", "login password=[redacted password]. Then"},
      {"token=a.b.c:d/e+f==", "token=[redacted token]"},
  };
  check(rows);
}

TEST(Redaction, TakesOutCredentialsOfHeaders) {
  const Row rows[] = {
      {"Authorization: Basic dXNlcjpwYXNz", "Authorization: [redacted credentials]"},
      {"Authorization: Bearer abc.def", "Authorization: [redacted credentials]"},
      {"curl -H 'Authorization: Bearer abc.def.ghi' https://x",
       "curl -H 'Authorization: [redacted credentials]' https://x"},
      {R"({"authorization":"Token abc"})", R"({"authorization":"[redacted credentials]"})"},
      {R"(Authorization: Digest username="bob", response="ab")", "Authorization: [redacted credentials]"},
      {R"(-H 'Authorization: Digest username="bob", response="ab"' x)",
       "-H 'Authorization: [redacted credentials]' x"},
      {R"({"m":"Authorization: Digest username=\"bob\", response=\"ab\"","n":1})",
       R"({"m":"Authorization: [redacted credentials]","n":1})"},
      {"Authorization: AWS4-HMAC-SHA256 Credential=A1/x, SignedHeaders=host;date, Signature=ab next",
       "Authorization: [redacted credentials] next"},
      {"Authorization: Token 9944b09199c62bcf", "Authorization: [redacted credentials]"},
      {"authorization: token S3", "authorization: [redacted credentials]"},
      {"Authorization: Key a:1", "Authorization: [redacted credentials]"},
      {"Authorization : Token S3", "Authorization : [redacted credentials]"},
      {"Authorization: OAuth S3cret", "Authorization: [redacted credentials]"},
      {"Authorization: SharedKey acct:S3", "Authorization: [redacted credentials]"},
      {"Authorization: Api-Token S3", "Authorization: [redacted credentials]"},
      {"Authorization: OurOwn S3cret for bob", "Authorization: [redacted credentials] for bob"},
      {R"(Authorization: Bearer "S3")", "Authorization: [redacted credentials]"},
      {R"("Authorization: Bearer" "x")", R"("Authorization: [redacted credentials]" "x")"},
      {"Authorization: S3cret status=200", "Authorization: [redacted credentials] status=200"},
      {"Bearer  0123456789abcdef", "Bearer  [redacted token]"},
      {"auth=Bearer%200123456789abcdef", "auth=Bearer%20[redacted token]"},
      {"Cookie=a=1; b=S3 status=200", "Cookie=[redacted cookie] status=200"},
      {R"(Cookie: a="x"; b=S3)", "Cookie: [redacted cookie]"},
      {"map[Authorization:[Bearer xyz] Cookie:[a=b]]",
       "map[Authorization:[[redacted credentials]] Cookie:[[redacted cookie]]]"},
      {"Cookie: a=b; c=d", "Cookie: [redacted cookie]"},
      {"Set-Cookie: sid=1; Path=/; HttpOnly\nnext", "Set-Cookie: [redacted cookie]\nnext"},
      {"sent Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "sent Bearer [redacted token]"},
      {"bearer 0123456789abcdef", "bearer [redacted token]"},
      {"Basic dXNlcjpwYXNz", "Basic [redacted credentials]"},
      {"using basic dXNlcjpwYXNzd29yZA== now", "using basic [redacted credentials] now"},
  };
  check(rows);
}

TEST(Redaction, KnowsTokensByTheirForm) {
  const Row rows[] = {
      {"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[redacted token]"},
      {"(eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.)", "([redacted token])"},
      {"glsa_AbCdEfGhIjKlMnOpQrStUvWx_01234567", "[redacted token]"},
      {"ghp_abcdefghijklmnopqrstuvwxyz0123456789,", "[redacted token],"},
      {"github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuv", "[redacted token]"},
      {"glpat-abcdefghij-klmnopqrs", "[redacted token]"},
      {"xoxb-123456789012-abcdefghijkl", "[redacted token]"},
      {"AKIAIOSFODNN7EXAMPLE", "[redacted token]"},
      {"glptt-0123456789abcdefghij", "[redacted token]"},
      {"glcbt-64_0123456789abcdefghij", "[redacted token]"},
      {"glagent-0123456789abcdefghij", "[redacted token]"},
      {"xoxc-123456789012-abcdefghijkl", "[redacted token]"},
      {"d=xoxd-abc/def+ghi%2B;", "d=[redacted token]%2B;"},
      {"rk_test_abcdefghijkl", "[redacted token]"},
      {"u+aB3456789012345678.", "[redacted token]."},
      {"tls.key: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpNSUlF", "tls.key: [redacted token]"},
      {"AIzaSyA1234567890abcdefghijklmnopqrstuv", "[redacted token]"},
      {"sk_live_abcdefghijkl", "[redacted token]"},
      {"sk-proj-abcdefgh1234567890abcd", "[redacted token]"},
      {"SG.abcdefghijklmnop.qrstuvwxyz0123456789", "[redacted token]"},
      {"hvs.CAESIAbcdefghijklmnop", "[redacted token]"},
      {"bot 123456789:AAFabcdefghijklmnopqrstuvwxyz012345", "bot [redacted token]"},
      {"https://hooks.slack.com/services/T00/B00/XXXX1", "https://hooks.slack.com/services/[redacted token]"},
  };
  check(rows);
}

TEST(Redaction, TakesOutPrivateKeys) {
  const Row rows[] = {
      {"a -----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY----- b",
       "a [redacted private key] b"},
      {R"({"key":"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n","n":1})",
       R"({"key":"[redacted private key]\n","n":1})"},
      {"-----BEGIN OPENSSH PRIVATE KEY-----", "[redacted private key]"},
      {"-----BEGIN EC PRIVATE KEY-----\nMIIE and no end", "[redacted private key] and no end"},
      {"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: "
       "AES-128-CBC,0A\n\nMIIEab\nconnected",
       "[redacted private key]\nconnected"},
      {R"({"k":"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG...","n":1})",
       R"({"k":"[redacted private key]...","n":1})"},
      {"no \"-----BEGIN RSA PRIVATE KEY\" PEM block in x: db-1 is down",
       "no \"-----BEGIN RSA PRIVATE KEY\" PEM block in x: db-1 is down"},
      {"want -----BEGIN PRIVATE KEY-----: upstream db-1 down\nnext -----END CERTIFICATE-----",
       "want [redacted private key]: upstream db-1 down\nnext -----END CERTIFICATE-----"},
      {"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", "[redacted private key]"},
      {R"({"log":"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n"})",
       R"({"log":"[redacted private key]\n"})"},
      {"  key: |\n    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n    aB3=\n  next: 1",
       "  key: |\n    [redacted private key]\n    [redacted private key]\n  next: 1"},
      {"2026-01-31T10:00:00.1Z stdout F MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
       "2026-01-31T10:00:00.1Z stdout F [redacted private key]"},
      {"2026-01-31 10:00:00 MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
       "2026-01-31 10:00:00 [redacted private key]"},
      {"body is MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
       "body is MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"},
      {"-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
       "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----"},
      {"-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----"},
  };
  check(rows);
}

TEST(Redaction, SeesThroughColourCodes) {
  const Row rows[] = {
      {"\x1b[36mtoken=\x1b[0mS3cret", "token=[redacted token]"},
      {"\x1b[36mtoken\x1b[0m=S3cret", "token=[redacted token]"},
      {"\x1b[32mghp_abcdefghijklmnopqrst\x1b[0m", "[redacted token]"},
      {"\x1b[1;32mBearer\x1b[0m 0123456789abcdef", "Bearer [redacted token]"},
      {R"({"log":"\u001b[36mtoken=\u001B[0mS3cret"})", R"({"log":"token=[redacted token]"})"},
      {"\x1b\x1b[0m[1mtoken=\x1b[0mx1 \x1b", "[1mtoken=[redacted token] "},
      {"\x1b[31mno secret\x1b[0m", "\x1b[31mno secret\x1b[0m"},
  };
  check(rows);
}

TEST(Redaction, SeesThroughEscapesOfJson) {
  const Row rows[] = {
      {R"({"m":"x\nghp_abcdefghijklmnopqrst"})", R"({"m":"x\n[redacted token]"})"},
      {R"({"m":"{\"m\":\"x\\nghp_abcdefghijklmnopqrst\"}"})", R"({"m":"{\"m\":\"x\\n[redacted token]\"}"})"},
      {R"({"m":"x\tBearer 0123456789abcdef"})", R"({"m":"x\tBearer [redacted token]"})"},
      {R"({"m":"x\neyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."})", R"({"m":"x\n[redacted token]"})"},
      {R"({"m":"Host: x\r\npass: S3cret\r\nA: b"})",
       R"({"m":"Host: x\r\npass: [redacted password]\r\nA: b"})"},
      {R"({"m":"?a=1\u0026sig=0123456789abcdef01\u0026b=2"})", R"({"m":"?a=1&sig=[redacted token]&b=2"})"},
      {R"({"m":"password\u003dS3cret"})", R"({"m":"password=[redacted password]"})"},
      {R"({"m":"{\u0022password\u0022:\u0022S3 x\u0022}"})",
       R"({"m":"{\"password\":\"[redacted password]\"}"})"},
      {R"(body {\x22password\x22:\x22S3 x\x22})", R"(body {\"password\":\"[redacted password]\"})"},
      {R"({"m":"https:\/\/bob:S3@localhost\/x"})", R"({"m":"https://[redacted credentials]@localhost/x"})"},
      {R"({"m":"C:\\token=S3"})", R"({"m":"C:\\token=[redacted token]"})"},
      {R"(\u005cu003d\u00\u0033d a\/b)", R"(\u005cu003d\u00\u0033d a\/b)"},
  };
  check(rows);
}

TEST(Redaction, TakesOutCredentialsOfUrlsAndMailboxes) {
  const Row rows[] = {
      {"postgres://u:p@db:5432/x", "postgres://[redacted credentials]@db:5432/x"},
      {"https://user:pa/ss?w#rd@host/path", "https://[redacted credentials]@host/path"},
      {"https://u:p@ss@host/", "https://[redacted credentials]@host/"},
      {"https://0123456789abcdef@sentry.example.org/1",
       "https://[redacted credentials]@sentry.example.org/1"},
      {"amqp://u:p@h1,amqp://u:p@h2", "amqp://[redacted credentials]@h1,amqp://[redacted credentials]@h2"},
      {"mail bob.smith+x@example.org now", "mail [redacted email] now"},
      {"<a@b.example>, c@d.example;", "<[redacted email]>, [redacted email];"},
      {"https://x/?mail=a@b.example&n=1", "https://x/?mail=[redacted email]&n=1"},
      {"git@github.com:foo/bar", "[redacted email]:foo/bar"},
  };
  check(rows);
}

TEST(Redaction, LeavesWhatIsNoSecret) {
  const std::string_view texts[] = {
      "550e8400-e29b-41d4-a716-446655440000",
      "commit 3f9a2bc4d5e6f708192a3b4c5d6e7f8091a2b3c4",
      "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
      "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
      "v1.2.3 go1.22.1 10.0.0.1 2001:db8::1",
      "tokens: 5",
      "max_tokens=5 token_type=bearer password_length=12 session_id=abc",
      "token_count: 5, secret_name: db, key: value, author=bob",
      "bypass=true compass=north keypass_count=3",
      "token: expired",
      "invalid token: signature mismatch",
      "parse token: unexpected end of JSON input",
      "cookie: missing",
      "password authentication failed for user \"shop\"",
      "Failed password for root from 192.0.2.7 port 22 ssh2",
      "bearer token expired",
      "basic authentication failed",
      "Basic realm=x",
      "password=null token=nil secret=\"\" pwd=- token=<*> password=\"<*>\" token=**** secret=${SECRET}",
      "password=[REDACTED] password=[redacted]",
      "PWD=/home/ann OLDPWD=/tmp",
      "received sig=SIGTERM",
      "pass: 12, fail: 3",
      "Unexpected token: ident at line 3",
      "assertion: count > 0 failed",
      "secret: default/db not found",
      "authorization: permission denied for bob",
      "authorization: token expired",
      "registry/app:v1@sha256:9f86d081884c7d65",
      "std::token::x token::parse",
      "https://registry.npmjs.org/@scope/pkg",
      "http://host:8080/@x http://[::1]:80/a@b",
      "ssh://git@host/repo",
      "user@1000.service pkg@1.2.3 @example.org a@ @",
      "sk-learn-is-a-library-for-python ghp_short eyJhb AKIA",
      "[redacted token] [redacted private key]",
      "token=5",
      "password=",
      "password: \nnext",
      "",
  };
  for (const auto text : texts) check(std::vector<Row>{{text, text}});
}

TEST(Redaction, TakesOutAddressesOnlyWhenAsked) {
  const Redaction addresses({.addresses = true});
  const Row rows[] = {
      {"from 192.0.2.7:22 to 10.0.0.0/8.", "from [redacted address]:22 to [redacted address]."},
      {"[2001:db8::1]:443 and ::1 and fe80::1%eth0",
       "[[redacted address]]:443 and [redacted address] and [redacted address]"},
      {"at 03:04:05 v1.2.3 1.2.3.4.5 std::string", "at 03:04:05 v1.2.3 1.2.3.4.5 std::string"},
      {"http://192.0.2.7/", "http://[redacted address]/"},
  };
  check(rows, addresses);
}

TEST(Redaction, LeavesMailboxesWhenAsked) {
  EXPECT_EQ(Redaction({.emails = false}).apply("a@b.example token=x"), "a@b.example token=[redacted token]");
}

TEST(Redaction, IsLinearForHostileTexts) {
  for (const std::string_view piece : {"eyJa-",
                                       "eyJaaaaaaaa",
                                       "sk-a",
                                       "password=",
                                       "password:[",
                                       "token=\"",
                                       "a@",
                                       "a.b@",
                                       "a@b-",
                                       "://a:b/",
                                       "://",
                                       "x://a:b",
                                       "-----BEGIN PRIVATE KEY",
                                       "-----BEGIN ",
                                       "Bearer a",
                                       "Basic ",
                                       "Basic aa ",
                                       "\\\"token\\\":",
                                       "--token ",
                                       "<token>",
                                       "[redacted ",
                                       "[redacted a]",
                                       "1:",
                                       "::",
                                       "1.1.",
                                       "token=a,b",
                                       "Authorization: ",
                                       "Cookie: a=",
                                       "a=b,",
                                       "token:",
                                       "ghp_",
                                       "AKIA",
                                       "\xFF",
                                       "=",
                                       "hvs.",
                                       "https://hooks.slack.com/services/",
                                       "123456789:AA",
                                       "-----BEGIN PRIVATE KEY-----",
                                       "-----BEGIN PRIVATE KEY----- MIIE",
                                       "a:b@tcp",
                                       "\x1b[",
                                       "\\u001b",
                                       "\\u005cu005c",
                                       "\\u0022",
                                       "\\\\",
                                       "\\n",
                                       "\\/",
                                       "Authorization: Digest a=b, ",
                                       "Cookie=a=b; ",
                                       "token:[\"a",
                                       "password,\n",
                                       "\"MIIE+/",
                                       " MIIE"}) {
    std::string text;
    while (text.size() < 1'000'000) text += piece;
    // A quadratic step would take minutes; the limit on the test's own time would tell.
    const Redaction redaction({.addresses = true});
    const auto once = redaction.apply(text);
    EXPECT_TRUE(redaction.apply(once) == once) << piece;
  }
}

TEST(Redaction, ChangesNothingMoreTheSecondTime) {
  // Texts put together from what the rules look for, in any order.
  const std::string_view pieces[] = {"password",
                                     "token",
                                     "=",
                                     ": ",
                                     "\"",
                                     "'",
                                     "\\",
                                     "\\\"",
                                     "[",
                                     "]",
                                     "{",
                                     "}",
                                     ",",
                                     ";",
                                     "&",
                                     " ",
                                     "  ",
                                     "\n",
                                     "Bearer ",
                                     "Basic ",
                                     "dXNlcjpwYXNz",
                                     "eyJhbGciOiJ",
                                     ".",
                                     "-",
                                     "--",
                                     "@",
                                     "a",
                                     "b1",
                                     "x.example",
                                     "://",
                                     "/",
                                     ":",
                                     "::",
                                     "1",
                                     "192.0.2.7",
                                     "<",
                                     ">",
                                     "<*>",
                                     "[redacted token]",
                                     "[redacted ",
                                     "Authorization",
                                     "Cookie",
                                     "ghp_abcdefghijklmnopqrst",
                                     "-----BEGIN PRIVATE KEY-----",
                                     "-----END PRIVATE KEY-----",
                                     "\x1b[0m",
                                     "\x1b",
                                     "\\u001b[1m",
                                     "\\u003d",
                                     "\\u0022",
                                     "\\n",
                                     "\\/",
                                     "value",
                                     "--token",
                                     "Digest ",
                                     "OAuth ",
                                     "@tcp(",
                                     "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
                                     "aB3=",
                                     "unexpected ",
                                     "sig",
                                     "pass",
                                     "secret",
                                     "%20",
                                     "x/y not",
                                     "assertion",
                                     "(",
                                     "null",
                                     "expired",
                                     "é",
                                     "\xC3"};
  std::mt19937 random(5);
  for (const bool addresses : {false, true}) {
    const Redaction redaction({.addresses = addresses});
    for (int i = 0; i < 200'000; ++i) {
      std::string text;
      for (auto count = random() % 12; count > 0; --count) text += pieces[random() % std::size(pieces)];
      const auto once = redaction.apply(text);
      ASSERT_EQ(redaction.apply(once), once) << text;
      ASSERT_EQ(redaction.finds(text), once != text) << text;
    }
  }
}

}  // namespace
