#include "common/secret.h"

#include <gtest/gtest.h>

#include <concepts>
#include <ostream>
#include <type_traits>
#include <utility>

#include <fmt/format.h>
#include <fmt/ostream.h>
#include <nlohmann/json.hpp>

namespace {

template <class T>
concept Streamable = requires(std::ostream& out, const T& value) { out << value; };

static_assert(Streamable<std::string> && !Streamable<Secret>);
static_assert(fmt::is_formattable<std::string>::value && !fmt::is_formattable<Secret>::value);
static_assert(!std::is_constructible_v<nlohmann::json, const Secret&>);
static_assert(!std::is_convertible_v<Secret, std::string> &&
              !std::is_convertible_v<Secret, std::string_view>);
static_assert(!std::is_convertible_v<std::string, Secret>, "making a secret is said aloud");

TEST(Secret, RevealsItsTextOnlyWhenAsked) {
  const Secret secret("swordfish");
  EXPECT_EQ(secret.reveal(), "swordfish");
  EXPECT_FALSE(secret.empty());
  EXPECT_TRUE(Secret().empty());
}

TEST(Secret, ComparesByEveryByteAndTheLength) {
  EXPECT_TRUE(Secret("abc") == Secret("abc"));
  EXPECT_FALSE(Secret("abc") == Secret("abd"));
  EXPECT_FALSE(Secret("abc") == Secret("ab"));
  EXPECT_TRUE(Secret() == Secret(""));
}

TEST(Secret, LeavesNothingBehindWhereItWasMovedFrom) {
  Secret from(std::string(10, 'x'));  // short enough to live inside the object itself
  const Secret to = std::move(from);
  const auto* bytes = reinterpret_cast<const unsigned char*>(&from);
  EXPECT_EQ(std::count(bytes, bytes + sizeof from, 'x'), 0);
  EXPECT_EQ(to.reveal(), "xxxxxxxxxx");
}

TEST(Secret, IsWipedWhenItDies) {
  alignas(Secret) unsigned char place[sizeof(Secret)] = {};
  auto* secret = new (place) Secret(std::string(10, 'y'));
  EXPECT_EQ(std::count(place, place + sizeof place, 'y'), 10);
  secret->~Secret();
  EXPECT_EQ(std::count(place, place + sizeof place, 'y'), 0);
}

TEST(Secret, CopiesAndAssignmentsKeepTheirOwnText) {
  Secret a("first"), b("second, and longer than any small buffer");
  Secret copy = a;
  a = b;
  b = Secret("third");
  EXPECT_EQ(copy.reveal(), "first");
  EXPECT_EQ(a.reveal(), "second, and longer than any small buffer");
  EXPECT_EQ(b.reveal(), "third");
  auto& same = a;
  a = same;
  EXPECT_EQ(a.reveal(), "second, and longer than any small buffer");
}

}  // namespace
