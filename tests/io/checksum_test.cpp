#include "io/checksum.hpp"

#include <gtest/gtest.h>

#include "io/fixtures.hpp"

namespace cupel {
namespace {

using fixtures::as_bytes;

// The check value of CRC-32/ISO-HDLC.
TEST(Checksum, Crc32) { EXPECT_EQ(crc32(0, as_bytes("123456789")), 0xcbf43926u); }

/// CRC-32 bit by bit.
u32 slow_crc32(u32 crc, std::string_view bytes) {
  crc = ~crc;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

// Where wide blocks begin and end, at any address, continued from any value.
TEST(Checksum, Crc32OfEveryLengthAndAddress) {
  std::string text(70'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i * 31 % 251);
  const std::string_view all = text;
  const auto check = [&](std::size_t at, std::size_t size, u32 crc) {
    const std::string_view part = all.substr(at, size);
    ASSERT_EQ(crc32(crc, std::as_bytes(std::span(part))), slow_crc32(crc, part))
        << size << " bytes at " << at;
  };
  for (std::size_t size = 0; size < 1100; ++size) {
    for (const std::size_t at : {0, 1, 63}) check(at, size, static_cast<u32>(size * 0x9E3779B9u));
  }
  for (const std::size_t size : {8191, 8192, 8193, 16'384, 65'536, 69'990}) check(7, size, 0);
}

// Digests of the xxHash project's own tool, `xxhsum -H2`.
TEST(Checksum, Xxh3) {
  StreamHash empty;
  EXPECT_EQ(empty.digest(), "99aa06d3014798d86001c324468d497f");
  StreamHash letter;
  letter.update(as_bytes("a"));
  EXPECT_EQ(letter.digest(), "a96faf705af16834e6c632b61e964e1f");
}

TEST(Checksum, PiecesGiveTheHashOfTheWhole) {
  std::string text(300'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 % 251);
  StreamHash whole, pieces, both;
  whole.update(as_bytes(text));
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = std::min<std::size_t>(text.size() - at, at % 7919 + 1);
    pieces.update(as_bytes(text).subspan(at, size));
    at += size;
  }
  EXPECT_EQ(pieces.digest(), whole.digest());
  EXPECT_EQ(both.update_with_crc(0, as_bytes(text)), crc32(0, as_bytes(text)));
  EXPECT_EQ(both.digest(), whole.digest());
}

TEST(Checksum, ReversedUnitsAreHashedInTheFilesOrder) {
  for (const std::size_t unit : {2, 4, 8}) {
    std::string text(100'000, '\0');  // more than a block
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 % 253);
    StreamHash plain, reversed;
    plain.update(as_bytes(text));
    const std::string swapped = fixtures::reversed(text, unit);
    ASSERT_NE(swapped, text);
    reversed.update_reversed(as_bytes(swapped), static_cast<i64>(unit));
    EXPECT_EQ(reversed.digest(), plain.digest());
  }
}

}  // namespace
}  // namespace cupel
