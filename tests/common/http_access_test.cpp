#include "common/http_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace {

using testing::HasSubstr;

TEST(BasicAuthorization, IsRfc7617s) {
  EXPECT_EQ(http::basic_authorization("Aladdin", Secret("open sesame")),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
  EXPECT_EQ(http::basic_authorization("", Secret()), "Basic Og==");
}

TEST(ReadToken, TakesTheFirstLineAndRefusesAnEmptyFile) {
  std::string name = (std::filesystem::temp_directory_path() / "token.XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  const auto path = std::filesystem::path(name) / "token";
  std::ofstream(path) << "  glsa_x \r\nmore\n";
  EXPECT_EQ(http::read_token(path, "--token-file")->reveal(), "glsa_x");
  std::ofstream(path) << "\n";
  EXPECT_THAT(http::read_token(path, "--token-file").error().message,
              HasSubstr("--token-file: " + path.string()));
  std::filesystem::remove_all(name);
  EXPECT_THAT(http::read_token(path, "--token-file").error().message, HasSubstr("cannot be read"));
}

TEST(OneLine, IsHarmlessWhateverTheServerSays) {
  EXPECT_EQ(http::one_line(" a\n\x1b[31mb\t"), "a  [31mb");
  EXPECT_EQ(http::one_line("\xff\xc3\xa4"), "?\xc3\xa4");
  EXPECT_EQ(http::one_line(std::string(600, 'x'), 10), "xxxxxxxxxx...");
  EXPECT_EQ(http::one_line(""), "");
}

}  // namespace
